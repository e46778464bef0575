"""The settings of a training: read from TOML and options, checked, and compared when a run is resumed."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from effkeras.data.augmentations import PRESET, AugmentSpec
from effkeras.support.errors import EffkerasError, closest
from effkeras.support.tables import Table, merge, read_toml, to_record, to_table
from effkeras.training.progressive import Progressive

OptimizerName = Literal[
    "adamw",
    "sgd",
    "rmsprop",
    "lion",
    "adam",
    "nadam",
    "adamax",
    "adagrad",
    "adadelta",
    "adafactor",
    "lamb",
    "ftrl",
]
Precision = Literal["none", "bfloat16", "float16"]
LENGTHS = ("epochs", "steps", "minutes")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """All settings of a training; stored in the run folder, and compared when it is resumed.

    The length is that of `epochs`, `steps` or `minutes`, of which at most one is given; without one,
    `effkeras.training.defaults` chooses it by the data. `accumulate` is the number of steps whose gradients
    make one update, as of a batch so many times as large. `learning_rate` is the peak, for the given batch
    size. After `warmup_epochs` the rate falls by `schedule`: along half a cosine to 0, by `decay_factor` as
    many times in the whole training as `decays` says, or not at all. `weight_decay` shrinks the weights
    beside the optimizer's steps, relative to the rate; `l2` times the weights is added to the gradients, as
    papers before AdamW do it. `clip_norm` of 0 clips nothing.

    `ema` is the decay of the averaged weights. `label_smoothing` is the share of a target that is
    spread over all classes. `focal_alpha`, `focal_gamma` and `box_weight` are those of
    `effkeras.detection.losses`; each box loss has its own default `box_weight`. `class_weights` and
    `sampling` are those of `effkeras.training.fitted`. `freeze` is none, backbone or stages:N, the first N
    stages of `effkeras.training.freezing`; they train from `unfreeze_at` on: a step or, below 1, a share of
    the training, 0 for never. `backbone_rate` and `layer_decay` are factors of the rate for the backbone, and
    for each stage beside the next. `early_stop` ends the training after `patience` validations without
    improvement; without `patience`, after a fifth of the training. `progressive` are
    stages whose images grow.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int = 16
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    rmsprop_epsilon: float = 1e-3
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    decay_factor: float = 0.97
    decays: float = 146.0
    warmup_epochs: float = 1.0
    weight_decay: float = 1e-4
    l2: float = 0.0
    clip_norm: float = 10.0
    ema: float = 0.998
    label_smoothing: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 1.5
    box_loss: Literal["huber", "iou", "giou", "ciou"] = "huber"
    box_weight: float | None = None
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["uniform", "balanced"] = "uniform"
    seed: int = 0
    freeze: str = "none"
    unfreeze_at: float = 0.0
    backbone_rate: float = 1.0
    layer_decay: float = 1.0
    early_stop: bool = False
    patience: int | None = None
    mixed_precision: Precision = "none"
    validation_images: int = 300
    progressive: Progressive | None = None
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    def to_table(self) -> Table:
        """The settings as a plain table."""
        return to_table(self)

    @property
    def has_length(self) -> bool:
        """Whether the length of the training is given."""
        return any(getattr(self, name) is not None for name in LENGTHS)

    def total_steps(self, steps_per_epoch: int) -> int:
        """The number of steps of a training whose length is given in epochs or steps."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None:
            raise EffkerasError("this training needs its length in epochs or steps")
        return self.epochs * steps_per_epoch

    def like(self, before: TrainSettings) -> TrainSettings:
        """These settings; what is not given, the length for example, is as it was `before`."""
        missing = {entry.name for entry in dataclasses.fields(self) if getattr(self, entry.name) is None}
        if self.has_length:
            missing -= set(LENGTHS)
        return dataclasses.replace(self, **{name: getattr(before, name) for name in missing})


def read_settings(path: Path | None, overrides: Table, base: Table | None = None) -> TrainSettings:
    """Settings from a TOML file, overridden by the given options, on top of those of `base`."""
    return settings_over(
        read_toml(path) if path else {}, str(path) if path else "training options", overrides, base
    )


def settings_over(table: Table, where: str, overrides: Table, base: Table | None = None) -> TrainSettings:
    """`read_settings` for a table that is read already; errors name `where`."""
    given = _over(table, overrides)
    base = base or {}
    if PRESET in given.get("augment", {}):  # replaces all amounts
        base = {name: value for name, value in base.items() if name != "augment"}
    return checked_settings(settings_of(_over(base, given), where), where)


def _over(table: Table, overrides: Table) -> Table:
    """A table of settings with others on top; a length replaces one of another kind."""
    if not overrides.keys().isdisjoint(LENGTHS):
        table = {name: value for name, value in table.items() if name not in LENGTHS}
    return merge(table, overrides)


def settings_of(table: Table, where: str) -> TrainSettings:
    """The settings in a table, which may be that of an earlier version."""
    mixed = table.get("mixed_precision")
    if isinstance(mixed, bool):  # true was bfloat16, before there was float16
        table = {**table, "mixed_precision": "bfloat16" if mixed else "none"}
    return to_record(TrainSettings, table, where)


def checked_settings(settings: TrainSettings, where: str) -> TrainSettings:
    """The settings; EffkerasError for an invalid value."""
    above_zero: dict[str, Any] = {
        name: getattr(settings, name)
        for name in (
            *LENGTHS,
            "batch",
            "accumulate",
            "learning_rate",
            "rmsprop_epsilon",
            "decay_factor",
            "patience",
            "validation_images",
        )
    }
    given = [name for name in LENGTHS if above_zero[name] is not None]
    if len(given) > 1:
        raise EffkerasError(f"{where}: {' and '.join(given)} are two lengths of a training; give one")
    for name, value in above_zero.items():
        if value is not None and value <= 0:
            raise EffkerasError(f"{where}: {name} must be above 0, not {value}")
    _check_rates(settings, where)
    if settings.box_weight is not None and settings.box_weight <= 0:
        raise EffkerasError(f"{where}: box_weight must be above 0, not {settings.box_weight}")
    if not 0 <= settings.focal_alpha <= 1 or settings.focal_gamma < 0:
        raise EffkerasError(f"{where}: focal_alpha must lie between 0 and 1, focal_gamma must be 0 or above")
    for name in ("ema", "label_smoothing"):
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise EffkerasError(f"{where}: {name} must lie between 0 and 1, not {value}")
    return settings


def _check_rates(settings: TrainSettings, where: str) -> None:
    for name in ("backbone_rate", "layer_decay"):
        if getattr(settings, name) <= 0:
            raise EffkerasError(f"{where}: {name} must be above 0, not {getattr(settings, name)}")
    for name in ("clip_norm", "l2", "decays"):
        if getattr(settings, name) < 0:
            raise EffkerasError(f"{where}: {name} must be 0 or above, not {getattr(settings, name)}")
    if settings.l2 and settings.optimizer == "adamw":
        raise EffkerasError(f"{where}: l2 is for other optimizers than adamw, which has weight_decay")
    if not re.fullmatch(r"none|backbone|stages:[1-9]", settings.freeze):
        close = closest(settings.freeze, ("none", "backbone", "stages:2"))
        hint = f"; did you mean {close!r}?" if close else ""
        raise EffkerasError(
            f"{where}: freeze must be none, backbone or stages:N, not {settings.freeze!r}{hint}"
        )
    if settings.unfreeze_at < 0 or (settings.unfreeze_at and settings.freeze == "none"):
        raise EffkerasError(
            f"{where}: unfreeze_at is a step or a share below 1 of a training with freeze, "
            f"not {settings.unfreeze_at} with freeze = {settings.freeze!r}"
        )


def frozen_stages(freeze: str) -> int:
    """N of the setting `stages:N`."""
    return int(freeze.removeprefix("stages:"))


def changed_setting(ours: TrainSettings, theirs: TrainSettings) -> str:
    """The first setting that differs, as text; empty if there is none.

    A training may become longer, and its length may be given in another way.
    """
    for entry in dataclasses.fields(TrainSettings):
        before, now = getattr(theirs, entry.name), getattr(ours, entry.name)
        if entry.name in LENGTHS and (before is None or now is None or now > before):
            continue
        if before != now:
            return f"{entry.name} was {before} and is now {now}"
    return ""
