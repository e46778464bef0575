"""AP from stored matches: COCO's own value, and what weights mean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scenes import scene

from effkeras.detection.average_precision import Matches
from effkeras.detection.coco_metrics import coco_metrics
from effkeras.detection.nms import Detections


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_cocos_ap(seed):
    data, found = scene(seed)
    if all(record.crowd.all() for record in data.records):
        return
    wanted = coco_metrics(data, found)["AP"]
    assert Matches.of(data, found).average_precision() == pytest.approx(wanted, abs=1e-9)


def test_a_weight_of_two_is_the_image_twice_and_zero_is_without_it():
    data, found = scene(5)
    weights = np.random.default_rng(0).integers(0, 3, len(data.records)).astype(float)
    records, again = [], {}
    for record, weight in zip(data.records, weights, strict=True):
        for _ in range(int(weight)):
            again[len(records)] = found[record.image_id]
            records.append(dataclasses.replace(record, image_id=len(records)))
    repeated = dataclasses.replace(data, records=tuple(records))
    wanted = coco_metrics(repeated, again)["AP"]
    # Equal scores of the copies are cut in two by COCO's curve, never by ours.
    assert Matches.of(data, found).average_precision(weights) == pytest.approx(wanted, abs=0.03)


def test_nothing_found_is_zero():
    data, _ = scene(1)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    found = {record.image_id: nothing for record in data.records}
    assert Matches.of(data, found).average_precision() == 0
