"""Which split of a folder decides, and which is reported."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny import tiny_classifier

from effkeras import EffkerasError
from effkeras.data.formats.class_folders import write_folder
from quantize.splits import Splits, SplitsOptions

SPEC = tiny_classifier().replace(classes=1, labels=("a",))


@pytest.mark.parametrize(
    ("there", "split", "decides", "reported", "said"),
    [
        ("train val test", None, "val", "test", ""),
        ("val test", None, "val", "test", ""),
        ("train val", None, "val", "val", "has only the split val"),
        ("train test", None, "val", "test", "are held out for it"),
        ("test", None, "test", "test", "has only the split test: it is used both"),
        ("train val test", "train", "val", "train", ""),
        ("train val test", "val", "val", "val", ""),
        ("train test", "train", "val", "train", ""),
        ("train", None, "val", "val", "has only the split val"),
    ],
)
def test_val_decides_and_test_is_reported_where_they_are(
    there, split, decides, reported, said, tmp_path, capsys
):
    for name in there.split():
        write_folder(tmp_path, name, ("a",), [("a", np.zeros((8, 8, 3), np.uint8))] * 2)
    splits = Splits.open(tmp_path, SPEC, SplitsOptions(train=False, reported=split))
    assert (splits.validation.split, splits.test.split, splits.train) == (decides, reported, None)
    assert said in capsys.readouterr().err
    assert (splits.validation is splits.test) == (decides == reported)


def test_a_folder_without_either_is_refused(tmp_path):
    write_folder(tmp_path, "other", ("a",), [("a", np.zeros((8, 8, 3), np.uint8))])
    with pytest.raises(EffkerasError, match="neither a split val nor a split test"):
        Splits.open(tmp_path, SPEC)
