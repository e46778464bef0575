"""Whether an artifact is good enough to be written: one rule for `quantize` and `export tflite`.

The metrics are those of the split that decides (see `quantize.splits`), the model's own those of the model
that was given, before any step of a recipe.
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

# An artifact is ruined when it keeps less than KEPT of what its model's metric has above chance. Chance is
# 1 / classes for top-1, and 0 for AP and mIoU. A model that has little above chance has nothing to lose: it
# must have more than LEAST and, for top-1, more than ERRORS standard errors of guessing, on at least IMAGES.
KEPT = 0.5
LEAST = 0.05
ERRORS = 4
IMAGES = 10

FAILED = 1  # the exit code of a command that wrote no artifact


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """The images that metrics were measured on: their split and number."""

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
        before: the metrics of the model that count.
        after: those of the artifact.
        measured_on: the images that both were measured on.
    """
    for metric, own in before.items():
        if _is_ruined(own, after[metric], _chance(spec, metric), measured_on.images):
            return f"{metric} {own:.4f} -> {after[metric]:.4f} on {measured_on}"
    return ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an artifact was written.

    `reasons` are the problems of the file, or a drop beyond the budget; `ruined` is what `ruined` returned.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    ruined: str = ""


def announce(verdict: Verdict, written: str, refused: str) -> int:
    """Prints how a command ended, and gives its exit code.

    Args:
        verdict: what was decided.
        written: says which files were written.
        refused: says that none was.

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
    """Raises the EffkerasError for an artifact that is not written because of what `ruined` said."""
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
    if images < IMAGES or not above > max(LEAST, ERRORS * error):
        return False
    return not after - chance >= KEPT * above  # so is NaN


def _chance(spec: ModelSpec, metric: str) -> float:
    return 1 / spec.classes if metric == "top1" else 0.0
