"""Runs `effkeras train` until the end of its first step: `python first_step_worker.py BEGUN ARGUMENT...`.

BEGUN is the `time.time()` at which the process was started. The worker imports only what each version of
effkeras has: the checkout on its PYTHONPATH may be an earlier one.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any


class EndedError(Exception):
    """The first step has ended."""


def main(begun: float, arguments: list[str]) -> None:
    """Prints the seconds since `begun`, and the CPU seconds of this process, as JSON."""
    from effkeras.commands import train

    quiet = train.quiet

    @contextlib.contextmanager
    def watched() -> Iterator[None]:
        """The command loads TensorFlow inside this context, and the training with it."""
        with quiet():
            yield
        from effkeras.training import session

        session._StepEnd.on_train_batch_end = _end  # type: ignore[method-assign, assignment]

    train.quiet = watched
    try:
        train.main(arguments)
    except EndedError:
        print(json.dumps({"wall_s": time.time() - begun, "cpu_s": time.process_time()}))


def _end(callback: Any, batch: int, logs: dict[str, float] | None = None) -> None:
    raise EndedError


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
