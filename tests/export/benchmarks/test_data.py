"""The benchmark of data sets: what it generates is read, and a measuring process answers."""

from __future__ import annotations

import pytest

from effkeras.data.formats.coco import read_coco
from effkeras.support.errors import EffkerasError
from export.benchmarks.data import SPLIT, WAYS, Opening, _measured, write_coco_folder


def test_the_generated_file_is_read_whole(tmp_path):
    write_coco_folder(tmp_path / "coco", images=9, annotations=40)
    data = read_coco(tmp_path / "coco", SPLIT, masks=True)
    assert len(data.records) == 9
    assert sum(len(record.boxes) for record in data.records) == 40
    assert data.skipped == data.clipped == ()
    for way in ("effkeras", "effkeras, masks", "pycocotools"):
        seconds, cpu, peak = _measured(*WAYS[way], tmp_path / "coco")
        assert 0 < cpu <= seconds + 1 < 60
        assert 1e6 < peak < 1e10


def test_a_process_that_fails_is_named(tmp_path):
    with pytest.raises(EffkerasError, match=r"runs open_nothing\(\) failed: NameError"):
        _measured("", "open_nothing()", tmp_path)


def test_rows_hold_every_repeat():
    row = Opening("effkeras", [1.234, 2.0], [1.2, 1.9], [512.6, 513.0]).to_row(5, 7)
    assert (row["seconds"], row["peak_mb"], row["images"]) == ([1.23, 2.0], [513, 513], 5)
