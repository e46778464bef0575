"""The pictures that an export needs: to calibrate with, to choose by, and to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantize import plans

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData
    from effkeras.definition import ModelSpec
    from export.tflite import ExportOptions


@dataclass(frozen=True, eq=False, slots=True)
class Sets:
    """The pictures to calibrate with and those to measure on."""

    calibration: LabelledData | None
    check: LabelledData | None
    skip_bad: bool = False

    @classmethod
    def open(cls, options: ExportOptions) -> Sets:
        """The splits that an export needs."""
        if options.data is None:
            return cls(None, None)
        check = _open(options.data, options.split, ("test", "val"), options.skip_bad)
        if not plans.find(options.recipe).format.needs_data:
            return cls(None, check, options.skip_bad)
        return cls(_open(options.data, None, ("train",), options.skip_bad), check, options.skip_bad)

    def fitting(self, model: keras.Model) -> Sets:
        """The same, the pictures to measure on in the model's classes, with masks if it segments."""
        from effkeras.data.classes import matched
        from effkeras.models import spec_of

        if self.check is None:
            return self
        spec = spec_of(model)
        check = _with_masks(self.check, self.skip_bad) if spec.segments else self.check
        return replace(self, check=matched(check, spec))

    def to_tune(self, spec: ModelSpec) -> LabelledData:
        """Pictures to choose by, which are not those to measure on: val, or what is calibrated with."""
        from effkeras.data.splits import find_split

        assert self.calibration is not None
        split = find_split(self.calibration.root, "val")
        if split is None or (self.check is not None and split == self.check.split):
            split = self.calibration.split
        tune = _open(self.calibration.root, split, (), self.skip_bad)
        return _with_masks(tune, self.skip_bad) if spec.segments else tune


def _open(root: Path, asked: str | None, wanted: Sequence[str], skip_bad: bool) -> LabelledData:
    """The split that was asked for, else the first of `wanted` that exists (COCO: train is train2017)."""
    from effkeras.data.splits import find_split, open_data

    split = asked or find_split(root, *wanted) or wanted[0]
    return open_data(root, split, skip_bad=skip_bad)


def _with_masks(data: LabelledData, skip_bad: bool) -> LabelledData:
    from effkeras.data.splits import open_data

    return open_data(data.root, data.split, skip_bad=skip_bad, masks=True)
