"""When an artifact counts as ruined, and what is said of it."""

from __future__ import annotations

import math

import pytest
from support.tiny import tiny_classifier, tiny_detector

from effkeras import EffkerasError
from effkeras.definitions.changes import with_heads
from quantize.acceptance import MeasuredOn, beyond_budget, refuse_ruined, ruined

DETECTOR, CLASSIFIER = tiny_detector(), tiny_classifier()  # of ten classes


@pytest.mark.parametrize(
    ("before", "after", "images", "is_ruined"),
    [
        (0.264, 0.0004, 50, True),
        (0.264, 0.131, 50, True),
        (0.264, 0.133, 50, False),
        (0.264, math.nan, 50, True),
        (0.264, 0.0004, 9, False),  # too few to tell
        (0.04, 0.0, 50, False),  # hardly trained: nothing to lose
    ],
)
def test_half_of_a_detectors_ap_is_kept(before, after, images, is_ruined):
    said = ruined(DETECTOR, {"AP": before}, {"AP": after, "AP50": 0.0}, MeasuredOn("val", images))
    assert said == (f"AP {before:.4f} -> {after:.4f} on val ({images} images)" if is_ruined else "")


@pytest.mark.parametrize(
    ("before", "after", "images", "is_ruined"),
    [
        (0.9, 0.49, 1000, True),  # less than half of what is above 0.1
        (0.9, 0.51, 1000, False),
        (0.4, 0.1, 1000, True),
        (0.4, 0.1, 10, False),  # guessing may reach 0.4 on so few
        (0.14, 0.1, 10000, False),
    ],
)
def test_a_classifier_is_judged_by_what_is_above_chance(before, after, images, is_ruined):
    said = ruined(CLASSIFIER, {"top1": before}, {"top1": after}, MeasuredOn("val", images))
    assert (said != "") == is_ruined


def test_either_head_may_be_ruined():
    spec = with_heads(DETECTOR, ["detect", "segment"])
    before, after = {"AP": 0.5, "mIoU": 0.6}, {"AP": 0.5, "mIoU": 0.1}
    assert ruined(spec, before, after, MeasuredOn("test", 20)) == "mIoU 0.6000 -> 0.1000 on test (20 images)"


def test_a_refusal_says_what_to_do_next():
    with pytest.raises(EffkerasError, match=r"^AP 1 -> 0: .*more epochs.*recipe.*calibration.*--force"):
        refuse_ruined("AP 1 -> 0")


def test_a_budget_is_kept_or_not():
    assert beyond_budget("val", 0.5, None) == beyond_budget("val", 0.01, 0.01) == ""
    assert beyond_budget("val", 0.25, 0.01) == "val loses 0.2500, beyond --max-drop 0.01"
    assert beyond_budget("val", math.nan, 0.01) != ""
