"""Whether an artifact is good enough to be written: one rule for `quantize` and `export tflite`.

Metrics are measured on the split for decisions (see `quantize.splits`). The model's metrics are those of the
model given by the user, before any step of a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effkeras.support.console import say, warn
from effkeras.support.errors import printable

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec
    from effkeras.inference.task import ClassValue
    from quantize.recipes import Recipe

# An artifact is ruined when its metric above chance is less than MIN_KEPT of its model's. Chance is
# 1 / classes for top-1, and 0 for AP and mIoU. The rule holds only if the model's metric is above chance by
# more than MIN_ABOVE_CHANCE and, for top-1, by more than MIN_ERRORS standard errors of guessing, on at least
# MIN_IMAGES images; and, for top-1, if the drop is more than DROP_ERRORS standard errors of the model's.
MIN_KEPT = 0.8
MIN_ABOVE_CHANCE = 0.05
MIN_ERRORS = 4
DROP_ERRORS = 2
MIN_IMAGES = 10
# A class is named when it loses as large a share, and has at least MIN_IMAGES objects.
NAMED_CLASSES = 5

LOST = "the artifact lost more than a fifth of the metric"
FAILED = 1  # the exit code of a command that wrote no artifact


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """The images that metrics were measured on: their split and their number."""

    split: str
    images: int

    def __str__(self) -> str:
        return f"{self.split} ({self.images} images)"


def ruined(
    spec: ModelSpec, before: Mapping[str, float], after: Mapping[str, float], measured_on: MeasuredOn
) -> str:
    """Names the metric that lost more than a fifth, as "AP 0.2640 -> 0.0004 on val (50 images)"; else "".

    Args:
        spec: the model's definition.
        before: the model's metrics that decide.
        after: the artifact's metrics.
        measured_on: the images that both were measured on.
    """
    for metric, own in before.items():
        if _is_ruined(own, after[metric], _chance(spec, metric), measured_on.images):
            return f"{metric} {own:.4f} -> {after[metric]:.4f} on {measured_on}"
    return ""


def lost_classes(
    labels: Sequence[str], metric: str, before: Mapping[int, ClassValue], after: Mapping[int, ClassValue]
) -> tuple[str, ...]:
    """The classes that lost more than a fifth, the worst first, as "Platelets AP50 0.10 -> 0.00".

    Args:
        labels: the names of classes; empty if there are none.
        metric: what is measured of each class.
        before: the model's value of each class, by its index.
        after: the artifact's.
    """
    lost = [
        (after[index].value / own.value, index)
        for index, own in before.items()
        if own.objects >= MIN_IMAGES and own.value > MIN_ABOVE_CHANCE
        if not after[index].value >= MIN_KEPT * own.value
    ]
    named = [index for _, index in sorted(lost)[:NAMED_CLASSES]]
    lines = [
        f"{labels[index] if labels else index} {metric} {before[index].value:.2f} -> {after[index].value:.2f}"
        for index in named
    ]
    more = len(lost) - len(named)
    return (*lines, f"{more} more classes") if more else tuple(lines)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an artifact was written.

    `reasons` are problems of the file, or a drop beyond the budget; `ruined` is the message of `ruined()`,
    `lost` that of `lost_classes`, and `advice` says what to do about a ruined artifact.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    ruined: str = ""
    lost: tuple[str, ...] = ()
    advice: str = "take another recipe"


def announce(verdict: Verdict, written: str, refused: str) -> int:
    """Prints how a command ended, and returns its exit code.

    Args:
        verdict: the decision.
        written: the message if files were written.
        refused: the message if not.
    """
    if verdict.lost:
        warn(f"warning: classes that lost more than a fifth: {', '.join(verdict.lost)}")
    if verdict.passed:
        if verdict.ruined:
            warn(f"warning: {verdict.ruined}: {LOST}; it was written because of --force")
        say(written)
        return 0
    for reason in verdict.reasons:
        say(f"failed: {printable(reason)}")
    say(refused)
    if not verdict.reasons:
        warn(f"error: {refusal_of_ruined(verdict.ruined, verdict.advice)}")
    return FAILED


def refusal_of_ruined(lost: str, advice: str) -> str:
    """Why a ruined artifact was not written, and what to do; `lost` is the message of `ruined`."""
    return f"{lost}: {LOST} and was not written; {advice}, or give --force to write it anyway"


def advice_for(recipe: Recipe) -> str:
    """What to do about a recipe's artifact that lost too much."""
    if recipe.trains:
        return "tune for longer (epochs of a recipe's [tune], or --epochs), take --recipe int8"
    if recipe.format.name == "int8":
        return "take more calibration images (--samples), --recipe qat-int8 or dynamic"
    return "take --recipe int8"


def beyond_budget(split: str, drop: float, max_drop: float | None) -> str:
    """Returns a message when the drop is larger than `max_drop`; else ""."""
    if max_drop is None or drop <= max_drop:
        return ""
    return f"{split} loses {drop:.4f}, beyond --max-drop {max_drop}"


def _is_ruined(before: float, after: float, chance: float, images: int) -> bool:
    error = math.sqrt(chance * (1 - chance) / images)
    above = before - chance
    if images < MIN_IMAGES or not above > max(MIN_ABOVE_CHANCE, MIN_ERRORS * error):
        return False
    if chance and before - after <= DROP_ERRORS * math.sqrt(before * (1 - before) / images):
        return False
    return not after - chance >= MIN_KEPT * above  # true for NaN


def _chance(spec: ModelSpec, metric: str) -> float:
    return 1 / spec.classes if metric == "top1" else 0.0
