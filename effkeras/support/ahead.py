"""Work in threads ahead of the caller: results in order, and only a few of them in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def mapped_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int = 1
) -> Generator[Result, None, None]:
    """Yields `function(item)` for each item, in order, as `map` does, while threads compute the next ones.

    The items are drawn in the caller's thread. An error is raised where its result would come. Then, and when
    the caller stops early, what has not begun is dropped.

    Args:
        function: computes one result; with several threads, calls run at the same time.
        items: drawn up to `ahead` items before their results are taken.
        ahead: the results that are computed, or waiting, beside the one that the caller works on.
        threads: the threads that compute.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
