"""The three parts of a data set that compression needs, each for one thing only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from effkeras.console import note
from effkeras.data.classes import matched
from effkeras.data.records import LabelledData
from effkeras.data.splits import check_folder, find_split, open_data, spread
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError


def measured_splits(root: Path, reported: str | None = None) -> tuple[str, str]:
    """The names of the split to decide by and of that to report on: val and test, where there are both.

    Where a folder has only one of them, it is both, and that is said. `reported` is a split that was asked
    for to report on. Raises EffkerasError when there is no such folder, or nothing to measure on in it.
    """
    check_folder(root)
    validation, test = find_split(root, "val"), find_split(root, "test")
    decides = validation or test or reported
    if decides is None:
        raise EffkerasError(f"{root} has neither a split val nor test; accuracy needs pictures of its own")
    if reported is None and (validation is None or test is None):
        note(f"{root} has only the split {decides}: what is reported is what was decided by")
    return decides, reported or test or decides


@dataclass(frozen=True, slots=True)
class Splits:
    """Pictures to train and calibrate on, to decide by, and to report on.

    `validation` and `test` may be the same when a data set has only one of them; what is reported is then
    what was decided by.
    """

    train: LabelledData
    validation: LabelledData
    test: LabelledData

    @classmethod
    def open(cls, root: Path, spec: ModelSpec, *, skip_bad: bool = False) -> Splits:
        """The splits train, val and test of a folder; those to measure on in the classes of a model.

        Raises EffkerasError when train, or both of the others, are missing, labels are bad, or the classes
        are not the model's.
        """
        train = find_split(root, "train") or "train"
        validation, test = measured_splits(root)

        def read(split: str) -> LabelledData:
            return open_data(root, split, skip_bad=skip_bad, masks=spec.segments)

        return cls(read(train), matched(read(validation), spec), matched(read(test), spec))

    def shortened(self, count: int) -> Splits:
        """The same with at most `count` pictures to train on, from all over the split."""
        return replace(self, train=spread(self.train, count))
