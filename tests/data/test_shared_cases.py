"""Small data sets that once went wrong without a word, in ../shared/cases."""

from __future__ import annotations

import numpy as np
import pytest
from support.data_sets import REAL
from support.tiny import tiny_classifier, tiny_detector

from effkeras.data.splits import open_data
from effkeras.data.store import ImageStore
from effkeras.support import console

CASES = REAL.parent / "cases"
SPEC = tiny_detector().input
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")


@needs_cases
def test_boxes_go_with_an_image_that_was_halved_after_labelling(capsys):
    console._noted.clear()
    right, halved = (
        ImageStore(open_data(CASES / "label-size-mismatch" / name, "train"), SPEC)[0]
        for name in ("right", "file_halved")
    )
    np.testing.assert_allclose(halved.boxes, right.boxes, atol=0.5)
    for sample in (right, halved):
        top, left, bottom, right_edge = np.rint(sample.boxes[0]).astype(int)
        red, _, blue = sample.pixels[(top + bottom) // 2, (left + right_edge) // 2]
        assert red > 200 > 60 > blue
    assert capsys.readouterr().err.count("scaled the boxes of 1 of 1 images") == 1


@needs_cases
def test_all_of_300_boxes_are_used():
    data = open_data(CASES / "over-100-boxes", "train")
    assert len(ImageStore(data, SPEC)[0].boxes) == len(data.records[0].boxes) == 300


@needs_cases
def test_images_of_every_suffix_and_depth_are_used():
    root = CASES / "nested-class-folders"
    records = [*open_data(root, "train").records, *open_data(root, "val").records]
    assert len(records) == 6
    data = open_data(root, "train")
    assert len(ImageStore(data, tiny_classifier().input)) == len(data.records)
