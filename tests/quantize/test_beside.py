"""What stands beside a result: the table, what is said of a worse result, of few images and of int4."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from effkeras.data.records import ClassificationData, ClassificationRecord
from effkeras.inference.compare import compare
from effkeras.inference.tasks.classification import Classification, agreement
from quantize import recipes
from quantize.accuracy import Accuracy
from quantize.beside import (
    PLAIN,
    Beside,
    few_images,
    float_row,
    is_plain_int8,
    row_of,
    slow_int4,
    wants_plain_int8,
    worse_than_plain,
)
from quantize.specs import PtqSpec

CLASSES = 12


def outcomes(scores: np.ndarray, labels: np.ndarray):
    names = tuple(map(str, range(CLASSES)))
    judge = Classification().judge(None, ClassificationData(Path("x"), "test", names, ()))
    for row, label in zip(scores, labels, strict=True):
        judge.add(ClassificationRecord(Path("x.png"), int(label)), None, {"probabilities": row})
    return judge.outcomes()


@pytest.fixture
def measured():
    """Of 40 images a model has all right and another half; of those, half tie with the right class."""
    labels = np.arange(40) % CLASSES
    right = np.eye(CLASSES, dtype=np.float32)[labels]
    other = np.where(np.arange(40)[:, None] % 2, right, np.roll(right, 1, axis=1))
    tied = np.where(np.arange(40)[:, None] % 4 == 0, np.maximum(other, right), other)
    return outcomes(right, labels), outcomes(tied, labels)


def test_of_tied_classes_the_models_own_is_agreement(measured):
    right, tied = measured
    assert agreement(right, right) == 1
    assert agreement(right, tied) == agreement(tied, right) == 0.75
    assert tied.value == 0.5 + 0.25 / 2
    broken = outcomes(np.full((40, CLASSES), np.nan, np.float32), np.arange(40) % CLASSES)
    assert agreement(right, broken) == 0


def test_a_class_has_its_own_value(measured):
    found = measured[1].by_class()
    assert sum(one.objects for one in found.values()) == 40
    assert found[1].value == 1
    assert found[2].value < 1


def test_the_table_is_80_columns_wide_and_says_what_is_worse(measured, capsys):
    right, tied = measured
    drop = compare(right, tied)
    accuracy = Accuracy("top1", "test", 40, {"top1": 1.0}, {"top1": 0.99})
    worse = Accuracy(
        "top1",
        "test",
        40,
        {"top1": 1.0},
        {"top1": drop.after},
        interval=(drop.low, drop.high),
        model_within=drop.before_within,
        artifact_within=drop.after_within,
        agreement=0.75,
    )
    plain, result = row_of(PLAIN, 5_000_000, accuracy), row_of("prune50-int8", 4_000_000, worse)
    said = worse_than_plain("prune50-int8", plain, result, drop)
    assert said.startswith("prune50-int8 is worse than plain int8 by 0.3650 (95%: 0.")
    assert "20% smaller" in said
    assert worse_than_plain("x", result, plain, None) == ""
    assert "may be worse" in worse_than_plain("x", plain, result, dataclasses.replace(drop, low=-0.1))
    Beside("top1", "test (40 images)", (float_row(18_000_000, worse), plain, result), said).show()
    printed = capsys.readouterr()
    assert f"warning: {said}" in printed.err
    assert max(map(len, printed.out.splitlines())) <= 80
    assert [line.split()[0] for line in printed.out.splitlines() if "," in line] == [
        "float32",
        "plain",
        "prune50-int8",
    ]
    assert "75.0%" in printed.out


@pytest.mark.parametrize(
    ("name", "is_plain", "wants"),
    [
        ("int8", True, True),
        ("mse-int8", False, True),
        ("dynamic", False, True),
        ("prune50-fp16", False, True),
    ],
)
def test_what_is_compared_with_plain_int8(name, is_plain, wants):
    recipe = recipes.find(name)
    assert (is_plain_int8(recipe, recipe.ptq), wants_plain_int8(recipe)) == (is_plain, wants)
    assert not is_plain_int8(recipes.find("int8"), PtqSpec(equalize=True))
    assert not wants_plain_int8(recipes.find("fp16"))


def test_few_images_and_int4_are_said_before_the_work():
    def data(count, classes):
        records = tuple(ClassificationRecord(Path("x.png"), 0) for _ in range(count))
        return ClassificationData(Path("x"), "train", tuple(map(str, range(classes))), records)

    trained = recipes.find("prune50-int8")
    assert few_images(trained, data(500, 500)).startswith(
        "prune50-int8 trains on 500 images of 500 classes: "
    )
    assert few_images(trained, data(5000, 1000))
    assert few_images(trained, data(1000, 10)) == few_images(recipes.find("int8"), data(5, 5)) == ""
    assert "slow on CPUs" in slow_int4(recipes.find("dynamic-int4"), convolves=True)
    assert slow_int4(recipes.find("int4"), convolves=False) == slow_int4(trained, convolves=True) == ""
