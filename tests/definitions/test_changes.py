"""Other classes and sizes change nothing else of a definition; what is neither is refused."""

from __future__ import annotations

import numpy as np
import pytest

import effkeras
from effkeras.definitions.changes import with_classes, with_size
from effkeras.support.errors import EffkerasError


def test_another_number_of_classes_forgets_labels_and_ids():
    spec = with_classes(effkeras.spec("efficientdet-digits"), 4)
    assert (spec.classes, spec.labels, spec.category_ids) == (4, (), ())


def test_the_same_number_of_classes_keeps_labels_and_ids():
    spec = effkeras.spec("efficientdet-digits")
    assert with_classes(spec, 10) is spec


def test_classes_may_be_given_by_name():
    spec = with_classes(effkeras.spec("d0"), ["cat", "dog"])
    assert (spec.classes, spec.labels, spec.category_ids) == (2, ("cat", "dog"), ())


def test_classes_may_be_numpys():
    spec = effkeras.spec("d0")
    assert with_classes(spec, np.int64(7)) == with_classes(spec, 7)
    assert with_classes(spec, np.array(["cat", "dog"])) == with_classes(spec, ["cat", "dog"])
    assert type(with_classes(spec, np.uint8(7)).classes) is int


@pytest.mark.parametrize("classes", [True, 2.5, "cat", None, [1, 2], ["cat", 2], {"cat", "dog"}, {"cat": 1}])
def test_what_are_no_classes_is_refused(classes):
    with pytest.raises(EffkerasError, match="classes must be a whole number or a list of names"):
        with_classes(effkeras.spec("d0"), classes)


@pytest.mark.parametrize(
    "shape", [(96, 160), [96, 160], (96, 160, 3), np.array([96, 160]), (np.int32(96), np.int64(160), 3)]
)
def test_another_size_changes_nothing_else(shape):
    spec = effkeras.spec("d0")
    other = with_size(spec, shape)
    assert other.input.size == (96, 160)
    assert with_size(other, spec.input.size) == spec


@pytest.mark.parametrize(
    "shape",
    [
        *[(64,), (64, 64, 1), (64, 64, 4), (1, 64, 64, 3), (64.0, 64), ("64", 64), (None, None, 3), ()],
        *[(True, 64), (np.float32(64), 64), {64, 96}, 64, "64", None],
    ],
)
def test_what_is_no_size_is_refused(shape):
    with pytest.raises(EffkerasError, match="input_shape must be"):
        with_size(effkeras.spec("d0"), shape)
