"""How far to prune for a latency: few measurements along the way of the greedy search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from effkeras.errors import EffkerasError
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.latency import Plan, Setting, measure_all

MEASUREMENTS = 6
# A share this close below the one that is wanted will do.
CLOSE = 0.03
PLAN = Plan(runs=30, warmup=5)


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the way: after so many steps, with an estimated and a measured share of the latency."""

    steps: int
    estimate: float
    measured: float


def latency_ratio(before: bytes, after: keras.Model) -> float:
    """The shortest run of a model's float artifact over that of another, interleaved, on one thread."""
    setting = Setting(xnnpack=True, threads=1)
    old, new = measure_all([(before, setting), (to_flatbuffer(after), setting)], PLAN)
    return new.min_ms / old.min_ms


def bisect(estimates: np.ndarray, keep: float, measure: Callable[[int], float]) -> Point:
    """The first place whose measured share is `keep` or less, within `CLOSE` or as well as can be found.

    Args:
        estimates: the estimated share after 0, 1, 2, ... steps, falling.
        keep: the share that is wanted.
        measure: the measured share after so many steps.

    Raises EffkerasError when not even all steps reach it.
    """
    above, below = Point(0, 1.0, 1.0), None
    for _ in range(MEASUREMENTS):
        place = _place(estimates, keep, above, below)
        point = Point(place, float(estimates[place]), measure(place))
        if point.measured <= keep:
            below = point
        else:
            above = point
        if below and (keep - below.measured <= CLOSE or below.steps - above.steps <= 1):
            return below
        if above.steps == len(estimates) - 1:
            break
    if below is None:
        raise EffkerasError(
            f"{keep:.0%} of the latency cannot be reached: {above.measured:.0%} was measured after "
            f"{above.steps} of {len(estimates) - 1} steps; keep more, or allow a smaller width"
        )
    return below


def _place(estimates: np.ndarray, keep: float, above: Point, below: Point | None) -> int:
    """Where to measure next: where the estimate, put right by what was measured, says a bit below `keep`."""
    last = len(estimates) - 1
    if below is None:
        wanted = (keep - CLOSE / 2) * above.estimate / above.measured
        return min(last, max(above.steps + 1, _first(estimates, wanted)))
    share = (above.measured - keep + CLOSE / 2) / max(above.measured - below.measured, 1e-6)
    wanted = above.estimate + (below.estimate - above.estimate) * min(max(share, 0.1), 0.9)
    return min(below.steps - 1, max(above.steps + 1, _first(estimates, wanted)))


def _first(estimates: np.ndarray, wanted: float) -> int:
    """The first place with an estimate of `wanted` or less; the last if there is none."""
    found = np.flatnonzero(estimates <= wanted)
    return int(found[0]) if len(found) else len(estimates) - 1
