"""When an artifact counts as ruined, and what is said of it."""

from __future__ import annotations

import math
import re

import pytest
from support.tiny import tiny_classifier, tiny_detector

from effkeras.definitions.changes import with_heads
from effkeras.inference.task import ClassValue
from quantize.acceptance import (
    MeasuredOn,
    beyond_budget,
    lost_classes,
    refusal_of_ruined,
    ruined,
)

DETECTOR, CLASSIFIER = tiny_detector(), tiny_classifier()  # of ten classes


@pytest.mark.parametrize(
    ("before", "after", "images", "is_ruined"),
    [
        (0.264, 0.0004, 50, True),
        (0.264, 0.211, 50, True),
        (0.264, 0.212, 50, False),
        (0.264, math.nan, 50, True),
        (0.264, 0.0004, 9, False),  # too few to tell
        (0.04, 0.0, 50, False),  # hardly trained: nothing to lose
    ],
)
def test_four_fifths_of_a_detectors_ap_are_kept(before, after, images, is_ruined):
    said = ruined(DETECTOR, {"AP": before}, {"AP": after, "AP50": 0.0}, MeasuredOn("val", images))
    assert said == (f"AP {before:.4f} -> {after:.4f} on val ({images} images)" if is_ruined else "")


@pytest.mark.parametrize(
    ("before", "after", "images", "is_ruined"),
    [
        (0.9, 0.73, 1000, True),  # less than four fifths of what is above 0.1
        (0.9, 0.75, 1000, False),
        (0.9, 0.73, 10, False),  # no more than chance makes of so few
        (0.9, math.nan, 1000, True),
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
    said = refusal_of_ruined("AP 1 -> 0", "take --recipe int8")
    assert re.match(r"AP 1 -> 0: .* a fifth .*; take --recipe int8, or give --force", said)


def test_classes_that_lose_much_are_named_and_the_worst_first():
    def values(*of_classes):
        return {index: ClassValue(value, objects) for index, (value, objects) in enumerate(of_classes)}

    before = values((0.8, 900), (0.92, 80), (0.1, 90), (0.5, 9), (0.04, 50))
    after = values((0.6, 900), (0.91, 80), (0.0, 90), (0.0, 9), (0.0, 50))
    labels = ("RBC", "WBC", "Platelets", "seldom", "untrained")
    assert lost_classes(labels, "AP50", before, after) == (
        "Platelets AP50 0.10 -> 0.00",
        "RBC AP50 0.80 -> 0.60",
    )
    assert lost_classes((), "AP50", before, after)[1] == "0 AP50 0.80 -> 0.60"
    assert lost_classes(labels, "AP50", before, before) == ()
    many = {index: ClassValue(0.5, 20) for index in range(9)}
    none = {index: ClassValue(math.nan, 20) for index in range(9)}
    assert lost_classes((), "top1", many, none)[-1] == "4 more classes"


def test_a_budget_is_kept_or_not():
    assert beyond_budget("val", 0.5, None) == beyond_budget("val", 0.01, 0.01) == ""
    assert beyond_budget("val", 0.25, 0.01) == "val loses 0.2500, beyond --max-drop 0.01"
    assert beyond_budget("val", math.nan, 0.01) != ""
