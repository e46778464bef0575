"""Top-n is what breaking ties by chance would give on average."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_classifier

from effkeras.data.splits import open_data
from effkeras.inference.compare import compare, measure
from effkeras.inference.evaluate import evaluate, evaluate_in_detail
from effkeras.inference.tasks.classification import ClassRanks, calibration_error

CLASSES = 10


@dataclasses.dataclass
class Fixed:
    """A classifier that gives every image the same scores."""

    scores: np.ndarray
    spec = tiny_classifier()

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"probabilities": np.tile(self.scores, (len(pixels), 1))}


def by_all_orders(scores: list[int], label: int, count: int) -> float:
    """The share of the orders by falling score in which the label is among the first `count`."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return sum(label in order[:count] for order in orders) / len(orders)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(0, 4), st.integers(1, 6))
def test_ties_share_the_places_that_are_left(scores, label, count):
    label %= len(scores)
    found = ClassRanks.of(np.array([scores], np.float32), np.array([label])).top(count)
    assert found[0] == pytest.approx(by_all_orders(scores, label, count))


@pytest.mark.parametrize(
    ("scores", "top1", "top5"),
    [
        (np.full(CLASSES, 0.1), 0.1, 0.5),
        (np.full(CLASSES, np.nan), 0, 0),
        (np.array([np.nan] + [0.5] * (CLASSES - 1)), 0, 0),
        (np.eye(CLASSES)[3], 0.1, 0.1 + 0.9 * 4 / 9),  # the other nine tie for four places
    ],
    ids=["constant", "nan", "some-nan", "one-class"],
)
def test_scores_that_say_nothing_are_right_by_chance(digit_classes, scores, top1, top5):
    data = open_data(digit_classes, "test")
    record = data.records[0]
    every = tuple(dataclasses.replace(record, label=label) for label in range(CLASSES))
    data = dataclasses.replace(data, records=every)
    metrics = evaluate(Fixed(scores.astype(np.float32)), data)
    assert metrics == pytest.approx({"top1": top1, "top5": top5})
    assert measure(Fixed(scores.astype(np.float32)), data).outcomes.value == pytest.approx(top1)


def test_rounding_that_only_makes_ties_costs_what_chance_costs(digit_classes):
    """8-bit scores in which the true class ties with one other: half of it is lost, not all."""
    data = open_data(digit_classes, "test")
    data = dataclasses.replace(data, records=tuple(dataclasses.replace(r, label=0) for r in data.records))
    exact = np.array([0.501, 0.499] + [0.0] * 8, np.float32)
    exact, rounded = (measure(Fixed(one), data).outcomes for one in (exact, np.round(exact, 1)))
    found = compare(exact, rounded)
    assert (found.before, found.after) == (1, 0.5)


def test_calibration_error_is_that_of_a_loop_over_the_bins():
    random = np.random.default_rng(0)
    confidences = np.concatenate([random.uniform(0, 1, 300), np.arange(16) / 15])
    right = random.choice([0, 0.5, 1], len(confidences))
    gaps = []
    for number in range(15):
        inside = [
            place
            for place, value in enumerate(confidences)
            if number / 15 < value <= (number + 1) / 15 or (number == 0 and value == 0)
        ]
        gaps.append(abs(sum(confidences[inside]) - sum(right[inside])))
    assert calibration_error(confidences, right) == pytest.approx(sum(gaps) / len(confidences), abs=0.01)
    assert calibration_error(np.array([0.9, 0.9]), np.array([1.0, 0.5])) == pytest.approx(0.15)
    assert calibration_error(np.array([np.nan]), np.array([0.0])) == 0


def test_classes_that_tie_share_an_image_in_the_confusion_matrix(digit_classes):
    data = open_data(digit_classes, "test")
    scores = np.array([0, 0.4, 0, 0.4] + [0.0] * 6, np.float32)
    judge = evaluate_in_detail(Fixed(scores), data).judges["classification"]
    found = judge.details()
    wanted = np.zeros((CLASSES, CLASSES))
    for record in data.records:
        wanted[record.label, [1, 3]] += 0.5
    np.testing.assert_array_equal(found.confusion, wanted)
    lines = {one.path: one.line for one in found.examples}
    first = next(record for record in data.records if record.label not in (1, 3))
    assert lines[first.path] == f"1 or 3, not {first.label}"
