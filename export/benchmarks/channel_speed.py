"""Speedup by channel pruning: detectors before and after losing half their MACs, float and int8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effkeras.litert.latency import InterpreterOptions, Plan, measure_all
from export.benchmarks.random_models import artifacts_on_random_images
from quantize.channels.pruning import prune_channels
from quantize.report import Compressed
from quantize.specs import ChannelSpec

if TYPE_CHECKING:
    import keras

    from effkeras.support.measurements import Latency

# Latency does not depend on the values of the weights, so random weights suffice.
RECIPES = ("float32", "int8")


@dataclass(frozen=True, slots=True)
class Case:
    """A zoo model and the side of its square input in pixels."""

    model: str
    side: int


CASES = (Case("efficientdet-lite0", 320), Case("efficientdet-d0", 512))


def speed_rows(
    cases: Sequence[Case] = CASES, spec: ChannelSpec | None = None, plan: Plan | None = None
) -> Iterator[dict[str, Any]]:
    """Latencies before and after pruning: one row of kind "channel-speed" for each model and recipe.

    All artifacts of a model take turns on XNNPACK with one thread, so that other load affects all alike.
    `faster` is the ratio of the shortest runs, `faster_median` the ratio of the medians.
    """
    import effkeras

    spec, plan = spec or ChannelSpec(), plan or Plan(runs=50, warmup=5)
    for case in cases:
        model = effkeras.build(case.model, input_shape=(case.side, case.side))
        pruned = prune_channels(model, spec)
        yield from _rows(case, spec, pruned, _timed(model, pruned.model, plan))


def _timed(model: keras.Model, pruned: keras.Model, plan: Plan) -> list[Latency]:
    """Latencies in the order of `RECIPES`, before and after for each."""
    options = InterpreterOptions(xnnpack=True, threads=1)
    both = [artifacts_on_random_images(one, RECIPES) for one in (model, pruned)]
    return measure_all([(made[recipe], options) for recipe in RECIPES for made in both], plan)


def _rows(
    case: Case, spec: ChannelSpec, pruned: Compressed, timed: list[Latency]
) -> Iterator[dict[str, Any]]:
    for index, recipe in enumerate(RECIPES):
        before, after = timed[2 * index : 2 * index + 2]
        yield {
            "kind": "channel-speed",
            "model": case.model,
            "side": case.side,
            "recipe": recipe,
            "keep": spec.keep,
            **{name: int(value) for name, value in pruned.report.figures.items()},
            "before": before.to_row(),
            "after": after.to_row(),
            "faster": round(before.min_ms / after.min_ms, 3),
            "faster_median": round(before.typical_ms / after.typical_ms, 3),
        }
