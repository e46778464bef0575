"""Whether an artifact is good enough to be written: one rule for `quantize` and `export tflite`.

Metrics are measured on the split for decisions (see `quantize.splits`). The model's metrics are those of the
model given by the user, before any step of a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from effkeras.support.console import note
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec

# An artifact is ruined when its metric above chance is less than MIN_KEPT of its model's. Chance is
# 1 / classes for top-1, and 0 for AP and mIoU. The rule holds only if the model's metric is above chance by
# more than MIN_ABOVE_CHANCE and, for top-1, by more than MIN_ERRORS standard errors of guessing, on at least
# MIN_IMAGES images.
MIN_KEPT = 0.5
MIN_ABOVE_CHANCE = 0.05
MIN_ERRORS = 4
MIN_IMAGES = 10

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
    """Names the metric that an artifact lost most of, as "AP 0.2640 -> 0.0004 on val (50 images)"; else "".

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an artifact was written.

    `reasons` are problems of the file, or a drop beyond the budget; `ruined` is the message of `ruined()`.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    ruined: str = ""


def announce(verdict: Verdict, written: str, refused: str) -> int:
    """Prints how a command ended, and returns its exit code.

    Args:
        verdict: the decision.
        written: the message if files were written.
        refused: the message if not.

    Raises:
        EffkerasError: most of the metric was lost, and there is no other reason.
    """
    if verdict.passed:
        if verdict.ruined:
            lost = f"warning: {verdict.ruined}: the artifact lost most of the metric"
            note(f"{lost}; it was written because of --force")
        print(written)
        return 0
    for reason in verdict.reasons:
        print(f"failed: {reason}")
    print(refused)
    if not verdict.reasons:
        refuse_ruined(verdict.ruined)
    return FAILED


def refuse_ruined(lost: str) -> NoReturn:
    """Raises EffkerasError for a ruined artifact; `lost` is the message of `ruined`."""
    raise EffkerasError(
        f"{lost}: the artifact lost most of the metric and was not written; train for more epochs, take "
        "another recipe or more calibration images, or give --force to write it anyway"
    )


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
    return not after - chance >= MIN_KEPT * above  # true for NaN


def _chance(spec: ModelSpec, metric: str) -> float:
    return 1 / spec.classes if metric == "top1" else 0.0
