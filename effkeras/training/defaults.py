"""What a training takes where its settings say nothing: chosen by the data, and said in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from effkeras.data.augmentations import PRESET, preset_for
from effkeras.support.tables import Table, read_toml
from effkeras.training.settings import TrainSettings

# A large set is seen this many times.
EPOCHS = 30
# A small one is repeated until a detector has seen this many images (3,000 steps of batch 8), ...
DETECTOR_IMAGES = 24_000
# ... and a classifier has made this many steps.
CLASSIFIER_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What the defaults depend on: the number of usable training images, and the kind of model."""

    images: int
    is_detector: bool


def finetune(facts: Facts) -> Table:
    """The settings that a training on one's own data starts from; its length is left to `completed`."""
    kind = "detector" if facts.is_detector else "classifier"
    settings: Table = read_toml(Path(__file__).with_name("finetune.toml"))[kind]
    return {**settings, "augment": {PRESET: preset_for(facts.images)}}


def completed(settings: TrainSettings, facts: Facts) -> tuple[TrainSettings, str]:
    """The settings with a default for what they leave open.

    Returns:
        The settings, and a line that says what was chosen and why; empty if nothing was left open.
    """
    if settings.has_length:
        return settings, ""
    steps_per_epoch = steps_of_epoch(facts.images, settings.batch)
    least = math.ceil(DETECTOR_IMAGES / settings.batch) if facts.is_detector else CLASSIFIER_STEPS
    if EPOCHS * steps_per_epoch >= least:
        said = f"training for {EPOCHS} epochs of {steps_per_epoch:,} steps, the default for sets of this size"
        return replace(settings, epochs=EPOCHS), said
    passes = least / steps_per_epoch
    said = (
        f"training for {least:,} steps, {passes:,.0f} passes over the {facts.images:,} images: "
        f"a small set needs more than {EPOCHS} (--epochs, --steps or --minutes: another length)"
    )
    return replace(settings, steps=least), said


def steps_of_epoch(images: int, batch: int) -> int:
    """The number of steps of an epoch; at least one, also with fewer images than a batch has."""
    return max(1, images // batch)
