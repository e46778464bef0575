"""The parts of a data set that compression and export need, each for one thing only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from effkeras.data.classes import matched
from effkeras.data.records import LabelledData
from effkeras.data.splits import check_exists, find_split, open_data, spread
from effkeras.definitions.definition import ModelSpec
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class SplitsOptions:
    """Which splits of a folder are read, and how.

    `train` says whether images to calibrate on are needed, `trains` whether models are trained on them too.
    `reported` is the split to report on, by default test, else val. `skip_bad` leaves bad annotations out.
    """

    train: bool = True
    trains: bool = True
    reported: str | None = None
    skip_bad: bool = False


def measured_splits(root: Path, reported: str | None = None) -> tuple[str, str]:
    """The names of the split to decide by and of that to report on: val and test, where there are both.

    Where a folder has only one of them, it is both, and that is said. `reported` is a split that was asked
    for to report on. Raises EffkerasError when there is no such folder, or nothing to measure on in it.
    """
    check_exists(root)
    validation, test = find_split(root, "val"), find_split(root, "test")
    decides = validation or test or reported
    if decides is None:
        raise EffkerasError(f"{root} has neither a split val nor test; accuracy needs images of its own")
    if reported is None and (validation is None or test is None):
        note(f"{root} has only the split {decides}: what is reported is what was decided by")
    return decides, reported or test or decides


@dataclass(frozen=True, eq=False, slots=True)
class Splits:
    """Images to train and calibrate on, to decide by, and to report on; None where there are none.

    `validation` and `test` are the same when a data set has only one of them; what is reported is then what
    was decided by.
    """

    train: LabelledData | None = None
    validation: LabelledData | None = None
    test: LabelledData | None = None

    @classmethod
    def open(cls, root: Path, spec: ModelSpec, options: SplitsOptions | None = None) -> Splits:
        """The splits of a folder; those to measure on in the classes of a model.

        Raises EffkerasError when a split that is needed is missing, labels are bad, or the classes are not
        the model's.
        """
        options = options or SplitsOptions()

        def read(split: str, masks: bool) -> LabelledData:
            return open_data(root, split, skip_bad=options.skip_bad, masks=masks)

        decides, reported = measured_splits(root, options.reported)
        name = find_split(root, "train") or "train"
        train = read(name, spec.segments and options.trains) if options.train else None
        validation, is_one = read(decides, spec.segments), decides == reported
        test = validation if is_one else read(reported, spec.segments)
        validation = matched(validation, spec)
        return cls(train, validation, validation if is_one else matched(test, spec))

    def shortened(self, count: int) -> Splits:
        """The same with at most `count` images to train on, from all over the split."""
        return self if self.train is None else replace(self, train=spread(self.train, count))
