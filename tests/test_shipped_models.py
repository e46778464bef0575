"""The weights that ship are small and as good as they are said to be."""

from __future__ import annotations

import pytest
from support.tiny import digits_folder

import effkeras
from effkeras.data.splits import open_data
from effkeras.definitions import zoo
from effkeras.inference.evaluate import evaluate
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of

# What each is at least worth on 1,000 test images, and on the fewer of CI.
DETECTORS = {"efficientdet-digits": (0.62, 0.93), "efficientdet-digits-d0": (0.62, 0.9)}
CLASSIFIERS = {"efficientnet-digits": 0.94, "efficientnet-digits-b0": 0.94}
SHIPPED = (*DETECTORS, *CLASSIFIERS)


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_are_small_and_belong_to_the_definition(name):
    file = zoo.definition_path(name).parent / effkeras.spec(name).weights["digits"].file
    assert file.stat().st_size <= 3_000_000
    stored = spec_of(effkeras.load(file))
    now = effkeras.spec(name)
    assert (stored.network, stored.input, stored.fpn, stored.labels) == (
        now.network,
        now.input,
        now.fpn,
        now.labels,
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("efficientdet-digits", 200, marks=pytest.mark.slow),
        *(pytest.param(name, 1000, marks=pytest.mark.nightly("training")) for name in DETECTORS),
    ],
)
def test_detectors_find_digits(name, count, tmp_path):
    folder = digits_folder(tmp_path / "d", train=1, val=1, test=count)
    model = effkeras.build(name, weights="digits")
    metrics = evaluate(KerasPredictor.of(model), open_data(folder, "test"))
    assert metrics["AP"] >= DETECTORS[name][0]
    assert metrics["AP50"] >= DETECTORS[name][1]


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.nightly("training"))])
def test_classifiers_know_digits(name, count, tmp_path):
    folder = digits_folder(tmp_path / "d", train=10, val=10, test=count, classify=True)
    model = effkeras.build(name, weights="digits")
    metrics = evaluate(KerasPredictor.of(model), open_data(folder, "test"))
    assert metrics["top1"] >= CLASSIFIERS[name]
