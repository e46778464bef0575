"""The three parts of a data set that compression needs, each for one thing only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from effkeras.console import note
from effkeras.data.classes import matched
from effkeras.data.records import LabelledData
from effkeras.data.splits import find_split, open_data, spread
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError


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
        names = [find_split(root, name) for name in ("train", "val", "test")]
        train, validation, test = names
        if validation is None and test is None:
            raise EffkerasError(
                f"{root} has neither a split val nor test; accuracy needs pictures of its own"
            )
        if validation is None or test is None:
            note(f"{root} has only the split {validation or test}: what is reported is what was decided by")

        def read(split: str | None) -> LabelledData:
            return open_data(root, split or "train", skip_bad=skip_bad, masks=spec.segments)

        judged = [matched(read(split), spec) for split in (validation or test, test or validation)]
        return cls(read(train), *judged)

    def shortened(self, count: int) -> Splits:
        """The same with at most `count` pictures to train on, from all over the split."""
        return replace(self, train=spread(self.train, count))
