"""The images that an export needs: to calibrate with, to decide by, and to report on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantize import plans

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData
    from effkeras.definition import ModelSpec
    from export.tflite import ExportOptions


@dataclass(frozen=True, eq=False, slots=True)
class Sets:
    """Images to calibrate with, to decide by and to report on, as in `quantize.splits.Splits`.

    The last two are the same where a folder has only one such split, and None without labelled images.
    """

    calibration: LabelledData | None = None
    validation: LabelledData | None = None
    test: LabelledData | None = None
    skip_bad: bool = False

    @classmethod
    def open(cls, options: ExportOptions) -> Sets:
        """The splits that an export needs."""
        from effkeras.data.splits import find_split, open_data
        from quantize.splits import measured_splits

        root = options.data
        if root is None:
            return cls()
        decides, reported = measured_splits(root, options.split)
        test = open_data(root, reported, skip_bad=options.skip_bad)
        validation = test if decides == reported else open_data(root, decides, skip_bad=options.skip_bad)
        calibration = None
        if plans.find(options.recipe).format.needs_data:
            train = find_split(root, "train") or "train"
            calibration = open_data(root, train, skip_bad=options.skip_bad)
        return cls(calibration, validation, test, options.skip_bad)

    def fitting(self, model: keras.Model) -> Sets:
        """The same, the images to measure on in the model's classes, with their masks if it segments."""
        from effkeras.models import spec_of

        if self.test is None or self.validation is None:
            return self
        spec = spec_of(model)
        test = self._fitted(self.test, spec)
        is_one = self.validation is self.test
        return replace(self, test=test, validation=test if is_one else self._fitted(self.validation, spec))

    def _fitted(self, data: LabelledData, spec: ModelSpec) -> LabelledData:
        from effkeras.data.classes import matched

        return matched(_with_masks(data, self.skip_bad) if spec.segments else data, spec)


def _with_masks(data: LabelledData, skip_bad: bool) -> LabelledData:
    from effkeras.data.splits import open_data

    return open_data(data.root, data.split, skip_bad=skip_bad, masks=True)
