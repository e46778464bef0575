"""The search's own process as its only worker: for notebooks, tests and quick evaluations."""

from __future__ import annotations

import contextlib

from effkeras.search.job import locks_of
from effkeras.search.store.locks import claimed
from effkeras.search.workers.crew import Post
from effkeras.search.workers.loop import attend


class Here:
    """Evaluates one candidate each time that it is asked how things are."""

    def __init__(self) -> None:
        self._kept = contextlib.ExitStack()

    def start(self, post: Post) -> None:
        """Makes the evaluator."""
        self._post = post
        self._evaluator = post.job.evaluation()
        self._owner = self._kept.enter_context(claimed(locks_of(post.job.out), post.limits.session))

    def step(self) -> bool:
        """Evaluates a candidate; False when none is left."""
        task = self._post.ledger.take(self._owner)
        if task is not None:
            attend(task, self._post.ledger, self._evaluator, self._post.job.objective)
        return task is not None

    def close(self) -> None:
        """Lets this process's name go."""
        self._kept.close()
