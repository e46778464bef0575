"""Concatenation of any number of maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Tensor = TypeVar("Tensor")

# XNNPACK leaves concatenations of more to other kernels.
AT_ONCE = 5


def joined(maps: Sequence[Tensor], name: str, concat: Callable[[Sequence[Tensor], str], Tensor]) -> Tensor:
    """All maps by `concat`, at most five at a time, the last under `name`; one map stays as it is."""
    parts = [maps[start : start + AT_ONCE] for start in range(0, len(maps), AT_ONCE)]
    if len(parts) == 1:
        return maps[0] if len(maps) == 1 else concat(maps, name)
    return joined([joined(part, f"{name}_part{i}", concat) for i, part in enumerate(parts)], name, concat)
