"""On what, how, and where to a step trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from effkeras.data.records import LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.training.settings import TrainSettings
from quantize.specs import TuneSpec


@dataclass(frozen=True, eq=False, slots=True)
class Lessons:
    """What a model is trained on, how, and where to.

    `out` is the folder of the training. `spec` is the definition of inputs and classes, by default the one
    that the model carries. `like` are the settings that the model was trained with: augmentation is kept.
    """

    train: LabelledData
    out: Path
    validation: LabelledData | None = None
    tune: TuneSpec = field(default_factory=TuneSpec)
    spec: ModelSpec | None = None
    like: TrainSettings = field(default_factory=TrainSettings)

    @property
    def settings(self) -> TrainSettings:
        """All settings of the training."""
        return self.tune.settings(self.like)
