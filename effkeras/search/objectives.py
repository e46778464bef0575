"""Objectives of a search: accuracy and one cost as a reward or a Pareto front, and limits on any cost.

- `mnas`: accuracy * (cost / target)^exponent (MnasNet, arXiv:1807.11626, soft constraint; EfficientNet,
  arXiv:1905.11946, with -0.07). A cost below the target is rewarded, so the optimum may lie below it.
- `mnas-hard`: accuracy * min((cost / target)^exponent, 1) (MnasNet's hard constraint, alpha = 0 and beta =
  -1): a cost below the target is not rewarded.
- `abs`: accuracy + exponent * |cost / target - 1| (TuNAS, arXiv:2008.06120): of equally accurate networks,
  the one that meets the target has the highest reward.
- `accuracy`: the accuracy alone. `pareto`: the reward is the accuracy; strategies and charts weigh
  accuracy and cost themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from effkeras.support.errors import EffkerasError, did_you_mean

Kind = Literal["mnas", "mnas-hard", "abs", "accuracy", "pareto"]

# From MnasNet (soft, hard) and from TuNAS' reference code.
EXPONENTS: Mapping[str, float] = {"mnas": -0.07, "mnas-hard": -1.0, "abs": -0.10}
# How far above 1 rounding in float32 may lift an accuracy.
_ROUNDING = 1e-6

_REWARDS: Mapping[str, Callable[[float, float, float], float]] = {
    "mnas": lambda accuracy, share, exponent: accuracy * share**exponent,
    "mnas-hard": lambda accuracy, share, exponent: accuracy * min(share**exponent, 1.0),
    "abs": lambda accuracy, share, exponent: accuracy + exponent * abs(share - 1),
}


@dataclass(frozen=True, slots=True)
class Objective:
    """What makes one candidate better than another.

    `cost` names the cost in the reward, and `target` is its desired value, in the cost's own unit.
    `exponent`, below 0, is the weight of the cost (None: `EXPONENTS`). `limits` are the highest costs
    allowed, by the name of the cost. A candidate over a limit (see `problem`) is infeasible: strategies
    receive it as failed, so that they avoid similar ones. Raises EffkerasError for invalid values.
    """

    kind: Kind = "accuracy"
    cost: str = "macs"
    target: float | None = None
    exponent: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise EffkerasError(f"unknown objective {self.kind!r}; {did_you_mean(self.kind, get_args(Kind))}")
        if self.needs_target:
            _check_above_zero(self.target, f"objective {self.kind!r} needs a target {self.cost} above 0")
        elif self.target is not None or self.exponent is not None:
            raise EffkerasError(
                f"objective {self.kind!r} weighs no cost: leave target and exponent out, or set limits"
            )
        if self.exponent is not None and not -math.inf < self.exponent < 0:
            raise EffkerasError(
                f"the exponent must be below 0, as in {EXPONENTS.get(self.kind)}, not {self.exponent}: "
                "otherwise costly networks would be rewarded"
            )
        for name, limit in self.limits.items():
            _check_above_zero(limit, f"the limit on {name} must be above 0")

    @property
    def needs_target(self) -> bool:
        """Whether the reward weighs the cost against a target."""
        return self.kind in _REWARDS

    @property
    def costs(self) -> tuple[str, ...]:
        """The names of all costs to measure, each once."""
        weighed = (self.cost,) if self.needs_target or self.kind == "pareto" else ()
        return tuple(dict.fromkeys((*weighed, *self.limits)))

    def reward(self, accuracy: float, costs: Mapping[str, float]) -> float:
        """The reward of an accuracy in 0..1 and measured costs, without the limits; higher is better.

        Raises EffkerasError when the accuracy is not in 0..1, or the cost is missing or not above 0.
        """
        if not 0 <= accuracy <= 1 + _ROUNDING:  # false for NaN
            raise EffkerasError(
                f"the accuracy must be from 0 to 1, not {accuracy}: the training may have diverged"
            )
        if not self.needs_target or self.target is None:
            return float(accuracy)
        share = _measured(self.cost, costs) / self.target
        exponent = EXPONENTS[self.kind] if self.exponent is None else self.exponent
        return float(_REWARDS[self.kind](accuracy, share, exponent))

    def problem(self, costs: Mapping[str, float]) -> str:
        """Why a candidate with these costs is infeasible; "" when it is within all limits.

        Raises EffkerasError when a limited cost was not measured.
        """
        over = [
            f"{name} {cost:,.10g} is over the limit of {limit:,.10g}"
            for name, limit in self.limits.items()
            if (cost := _measured(name, costs)) > limit
        ]
        return "; ".join(over)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[int]:
    """The positions of the points (accuracy, cost) that no other point dominates, cheapest first.

    One point dominates another when it is no worse in both values and better in one; equal points all
    stay. Raises EffkerasError for NaN.
    """
    listed: Sequence[tuple[float, float]] = list(points)
    for position, point in enumerate(listed):
        if any(map(math.isnan, point)):
            raise EffkerasError(f"point {position} of the Pareto front is not a number: {point}")
    front: list[int] = []
    for position in sorted(range(len(listed)), key=lambda one: (listed[one][1], -listed[one][0])):
        accuracy, _ = listed[position]
        if not front or accuracy > listed[front[-1]][0] or listed[position] == listed[front[-1]]:
            front.append(position)
    return front


def _measured(name: str, costs: Mapping[str, float]) -> float:
    if name not in costs:
        raise EffkerasError(f"the cost {name!r} was not measured; {did_you_mean(name, costs)}")
    _check_above_zero(costs[name], f"the cost {name!r} must be above 0")
    return costs[name]


def _check_above_zero(value: float | None, what: str) -> None:
    if value is None or not 0 < value < math.inf:
        raise EffkerasError(f"{what}, not {value}" if value is not None else what)
