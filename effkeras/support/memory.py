"""Memory management of Python."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pauses the search for reference cycles while millions of small objects without cycles are made.

    The search goes through all of them again and again: it takes a quarter of the time of opening a COCO file
    of 860,000 annotations.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
