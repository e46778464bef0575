"""What a training takes where its settings say nothing: chosen by the data, and said in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from effkeras.data.augmentations import PRESET
from effkeras.support.tables import Table, read_toml
from effkeras.training.settings import TrainSettings

# A large set is seen this many times.
EPOCHS = 30
# A small one is repeated until a detector has seen this many images (3,000 steps of batch 8), ...
DETECTOR_IMAGES = 24_000
# ... and a classifier has made this many steps.
CLASSIFIER_STEPS = 1_000
# A detector that sees each image this often learns it by heart with augmentation "light": on BCCD, 117 times,
# that gave AP 0.573, "medium" 0.593. In 300 steps, 12 times, "light" gave 0.42, "medium" 0.26.
MANY_PASSES = 60
# So may one of fewer images than this, and a classifier; that was not measured.
FEW_IMAGES = 100


@dataclass(frozen=True, slots=True)
class Facts:
    """What the defaults depend on: the number of usable training images, and the kind of model.

    A detector that only segments has no boxes.
    """

    images: int
    is_detector: bool
    has_boxes: bool = True


def finetune(facts: Facts, passes: float = 0.0) -> Table:
    """The settings that a training on one's own data starts from; its length is left to `completed`.

    `passes` are those over the images as far as they are known, see `passes_of`.
    """
    kind = "detector" if facts.is_detector else "classifier"
    settings: Table = read_toml(Path(__file__).with_name("finetune.toml"))[kind]
    if not facts.has_boxes:
        settings.pop("box_loss", None)
    return {**settings, "augment": {PRESET: preset_for(facts, passes)}}


def preset_for(facts: Facts, passes: float) -> str:
    """The preset of augmentations: a stronger one for images that are few or seen often."""
    is_long = facts.is_detector and passes >= MANY_PASSES
    return "medium" if is_long or facts.images < FEW_IMAGES else "light"


def passes_of(settings: TrainSettings, facts: Facts) -> float:
    """How often a training sees each image; 0 where its length is a time, which says nothing of it."""
    settings, _ = completed(settings, facts)
    if settings.minutes is not None:
        return 0.0
    steps = settings.total_steps(steps_of_epoch(facts.images, settings.batch))
    return steps * settings.batch / max(facts.images, 1)


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


def settings_for(read: Callable[[Table], TrainSettings], facts: Facts) -> tuple[TrainSettings, float]:
    """The settings of a training on these images, and its passes over them; see `passes_of`.

    `read` gives the settings of what the user states on top of a table of defaults. The defaults depend on
    the length, which the user may state, so it is read twice.
    """
    passes = passes_of(read(finetune(facts)), facts)
    return read(finetune(facts, passes)), passes


def steps_of_epoch(images: int, batch: int) -> int:
    """The number of steps of an epoch; at least one, also with fewer images than a batch has."""
    return max(1, images // batch)
