"""One-line advice at the end of a training, and where it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from effkeras.support.errors import EffkerasError
from effkeras.training.settings import LENGTHS, TrainSettings

# A detector without a score above this finds nothing that a user would see.
VISIBLE = 0.3
# A metric that grew by so much in the last fifth of a training still rises.
RISE, LAST = 0.01, 0.2


def check_loss(loss: float, step: int, settings: TrainSettings) -> None:
    """Raises EffkerasError if the loss of a step is NaN."""
    if not math.isnan(loss):
        return
    precision = " or computing in float32" if settings.mixed_precision != "none" else ""
    raise EffkerasError(
        f"the loss is NaN at step {step:,}; try --learning-rate {settings.learning_rate / 5:g}{precision}, "
        "with another --out"
    )


def unseen(highest: float | None) -> Iterator[str]:
    """A line for a detector whose highest score on val is too low; None if it has no scores."""
    if highest is not None and highest < VISIBLE:
        yield (
            f"no box on val has a score above {VISIBLE:g} (the highest is {highest:.2f}): train longer, or "
            "check the boxes with `effkeras data show`"
        )


def rising(metric: str, course: Sequence[tuple[int, float]], settings: TrainSettings) -> Iterator[str]:
    """A line if the metric still rises at the end of its `course`: (step, value) of all validations."""
    last = max((step for step, _ in course), default=0)
    before = [value for step, value in course if step <= (1 - LAST) * last]
    after = [value for step, value in course if step > (1 - LAST) * last]
    if not before or max(after) < max(before) + RISE:
        return
    name, length = next((name, value) for name in LENGTHS if (value := getattr(settings, name)) is not None)
    yield (
        f"{metric} still rises at the end ({max(before):.3f} -> {max(after):.3f}): the same command with "
        f"--{name} {2 * length:g} goes on from here"
    )
