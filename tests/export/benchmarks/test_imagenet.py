"""The table of docs/imagenet.md is the measured one; images are known by WordNet's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effkeras.support import results
from effkeras.support.errors import EffkerasError
from export.benchmarks.imagenet import KIND, PLAIN, accuracy, labelled_files, markdown

ROOT = Path(__file__).parents[3]


def test_the_docs_hold_the_newest_rows():
    table = markdown(results.read(ROOT / "models" / "results.jsonl"))
    assert table in (ROOT / "docs" / "imagenet.md").read_text("utf-8")
    assert len(table.splitlines()) > 10


def test_a_line_says_the_drop_of_all_but_float():
    row = {"kind": KIND, "model": "efficientnet-lite0", "images": 4, "bytes": 5_000_499}
    row |= {
        "top1": 0.5,
        "top1_within": [0.25, 0.75],
        "drop": -0.0,
        "drop_within": [-0.1, 0.2],
        "agreement": 1.0,
    }
    row |= {"min_ms": 1.04, "median_ms": 2, "p95_ms": 3}
    lines = markdown([{**row, "recipe": recipe} for recipe in (PLAIN, "float32")]).splitlines()[2:]
    start = "| 4 | 0.500 (0.250 to 0.750) |"
    end = "| 5000 | 1.0 / 2.0 / 3.0 |"
    assert lines[0] == f"| efficientnet-lite0 | `float32` {start}  |  {end}"
    assert "`int8`, TensorFlow's converter | 4" in lines[1]
    assert lines[1].endswith(f"+0.0000 (-0.1000 to +0.2000) | 1.000 {end}")


def test_accuracy_shares_ties():
    wanted = np.eye(3, 4)
    found = wanted.copy()
    found[2] = [0, 0, 1, 1]  # the right class ties with another
    found[1] = [1, 0, 0, 0]
    figures = accuracy(wanted, found, np.arange(3))
    assert (figures["float_top1"], figures["images"]) == (1.0, 3)
    assert figures["top1"] == pytest.approx(0.5)
    assert figures["drop"] == pytest.approx(0.5)
    assert figures["agreement"] == pytest.approx(2 / 3)


def test_images_are_labelled_by_file_or_folder(tmp_path):
    names = [f"n01440764/ILSVRC2012_{number}.jpg" for number in range(9)] + ["n01443537_goldfish.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {path.relative_to(tmp_path).as_posix(): label for path, label in labelled_files(tmp_path)}
    assert found == {name: int("goldfish" in name) for name in names}
    (tmp_path / "other.jpg").touch()
    with pytest.raises(EffkerasError, match="the WordNet number of a class"):
        labelled_files(tmp_path)
    for name in names[1:]:
        (tmp_path / name).unlink()
    (tmp_path / "other.jpg").unlink()
    with pytest.raises(EffkerasError, match="1 images are too few"):
        labelled_files(tmp_path)
