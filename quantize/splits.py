"""The splits of a data set for training, decisions and reports, and the training data of a step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from effkeras.data.classes import matched
from effkeras.data.records import LabelledData, ReadOptions
from effkeras.data.splits import check_exists, find_split, read_split, spread
from effkeras.definitions.definition import ModelSpec
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.training.settings import TrainSettings
from quantize.specs import TuneSpec


@dataclass(frozen=True, slots=True)
class SplitsOptions:
    """Which splits of a folder to read, and how.

    `train` reads the split train, for calibration; `trains` tells that models are trained on it too.
    `reported` is the split to report on, by default test, else val. `reading` is how they are read,
    apart from masks.
    """

    train: bool = True
    trains: bool = True
    reported: str | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)


def measured_splits(root: Path, reported: str | None = None) -> tuple[str, str]:
    """The names of the split for decisions and the split to report on: val and test if both exist.

    If a folder has only one of them, it serves as both, with a note. `reported` names another split to report
    on. Raises EffkerasError when the folder does not exist or has no split to measure on.
    """
    check_exists(root)
    validation, test = find_split(root, "val"), find_split(root, "test")
    decides = validation or test or reported
    if decides is None:
        raise EffkerasError(
            f"{root} has neither a split val nor a split test; add one to measure accuracy on"
        )
    if reported is None and (validation is None or test is None):
        note(f"{root} has only the split {decides}: it is used both to decide and to report")
    return decides, reported or test or decides


@dataclass(frozen=True, eq=False, slots=True)
class Splits:
    """Images to train and calibrate on, images for decisions, and images to report on; None if missing.

    `validation` and `test` are the same if a data set has only one of them.
    """

    train: LabelledData | None = None
    validation: LabelledData | None = None
    test: LabelledData | None = None

    @classmethod
    def open(cls, root: Path, spec: ModelSpec, options: SplitsOptions | None = None) -> Splits:
        """Opens the splits of a folder, and matches `validation` and `test` to the model's classes.

        Raises EffkerasError when a required split is missing, labels are bad, or the classes differ from the
        model's.
        """
        options = options or SplitsOptions()

        def read(split: str, masks: bool) -> LabelledData:
            return read_split(root, split, replace(options.reading, masks=masks))

        decides, reported = measured_splits(root, options.reported)
        name = find_split(root, "train") or "train"
        train = read(name, spec.segments and options.trains) if options.train else None
        validation, is_one = read(decides, spec.segments), decides == reported
        test = validation if is_one else read(reported, spec.segments)
        validation = matched(validation, spec)
        return cls(train, validation, validation if is_one else matched(test, spec))

    def shortened(self, count: int) -> Splits:
        """These splits with at most `count` training images, spread over the whole split."""
        return self if self.train is None else replace(self, train=spread(self.train, count))


@dataclass(frozen=True, eq=False, slots=True)
class StepTraining:
    """The data, settings and work folder of a step's training.

    `spec` defines inputs and classes; by default it is the model's definition. `like` are the settings that
    the model was trained with: the step reuses their augmentation.
    """

    train: LabelledData
    out: Path
    validation: LabelledData | None = None
    tune: TuneSpec = field(default_factory=TuneSpec)
    spec: ModelSpec | None = None
    like: TrainSettings = field(default_factory=TrainSettings)

    @property
    def settings(self) -> TrainSettings:
        """All settings of the training, which ends when the metric on `validation` stops improving."""
        settings = self.tune.settings(self.like, len(self.train.records))
        return replace(settings, early_stop=self.validation is not None)
