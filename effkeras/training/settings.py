"""Settings of a training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from effkeras.data.augmentations import AugmentSpec
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table, read_toml, to_record, to_table


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """All settings of a training; stored in the run folder, and compared when it is resumed.

    `learning_rate` is the peak, for the given batch size. `ema` is the decay of the averaged weights.
    `label_smoothing` is the share of a target that is spread over all classes. `patience` is the number of
    validations without improvement after which `early_stop` ends the training.
    """

    epochs: int = 30
    batch: int = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 1e-4
    clip_norm: float = 10.0
    ema: float = 0.998
    label_smoothing: float = 0.0
    seed: int = 0
    freeze: Literal["none", "backbone"] = "none"
    early_stop: bool = False
    patience: int = 5
    mixed_precision: bool = False
    validation_images: int = 300
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    def to_table(self) -> Table:
        """The settings as a plain table."""
        return to_table(self)


def read_settings(path: Path | None, overrides: Table) -> TrainSettings:
    """Settings from a TOML file (or the defaults), overridden by the given options."""
    table = read_toml(path) if path else {}
    where = str(path) if path else "training options"
    return checked(to_record(TrainSettings, {**table, **overrides}, where), where)


def checked(settings: TrainSettings, where: str) -> TrainSettings:
    """The settings; EffkerasError for an invalid value."""
    above_zero: dict[str, Any] = {
        name: getattr(settings, name)
        for name in ("epochs", "batch", "learning_rate", "clip_norm", "patience", "validation_images")
    }
    for name, value in above_zero.items():
        if value <= 0:
            raise EffkerasError(f"{where}: {name} must be above 0, not {value}")
    for name in ("ema", "label_smoothing"):
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise EffkerasError(f"{where}: {name} must lie between 0 and 1, not {value}")
    return settings


def difference(ours: TrainSettings, theirs: TrainSettings) -> str:
    """The first setting that differs, as text; empty if there is none."""
    for entry in dataclasses.fields(TrainSettings):
        before, now = getattr(theirs, entry.name), getattr(ours, entry.name)
        if before != now:
            return f"{entry.name} was {before} and is now {now}"
    return ""
