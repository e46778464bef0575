"""The benchmark of evaluation: what it makes is what it says, and its rows hold every repeat."""

from __future__ import annotations

import pytest

from effkeras.data.images import read_image
from effkeras.detection.coco_metrics import coco_metrics
from export.benchmarks.evaluation import (
    SIDES,
    Pair,
    classification_set,
    coco_results,
    coco_truth,
    detection_set,
    detections,
    timed,
)


def test_the_peer_measures_the_same_boxes():
    from faster_coco_eval import COCO, COCOeval_faster

    data, found = detections(3)
    truth = COCO(coco_truth(data))
    judge = COCOeval_faster(truth, truth.loadRes(coco_results(found)), "bbox")
    judge.run()
    ours = coco_metrics(data, found)
    assert 0.05 < ours["AP"] == judge.stats_as_dict["AP_all"]


def test_images_have_the_size_of_their_records(tmp_path):
    boxes, classes = detection_set(tmp_path / "boxes", 2), classification_set(tmp_path / "classes", 2)
    assert [record.size for record in boxes.records] == [SIDES] * 2
    assert [record.label for record in classes.records] == [0, 1]
    assert {read_image(one.path).shape for one in (*boxes.records, *classes.records)} == {(*SIDES, 3)}


def test_ways_take_turns_and_rows_hold_every_repeat():
    calls = []
    pair = timed("one", "other", 4, [lambda: calls.append("a"), lambda: calls.append("b")], 2)
    assert calls == list("ababab")
    assert len(pair.ours_s) == len(pair.theirs_s) == 2
    row = Pair("one", "other", 4, (1.0, 3.0, 2.0), (4.0,)).to_row()
    assert (row["ratio"], row["share_of_rate"]) == (0.5, 2.0)
    assert Pair("one", "", 4, (1.0,)).ratio is None
    assert pytest.approx(500) == float(Pair("one", "", 4, (2.0,)).cells()[1].split()[0])
