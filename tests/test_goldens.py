"""The networks compute what the official ones compute, from the official checkpoint format."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.checkpoint_writer import write_checkpoint
from support.eager import outputs_of_model
from support.goldens import Golden, read_golden
from support.proofs import AUTHORS, proves

import effkeras
from effkeras.definitions.changes import with_size
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.nms import Decoder
from effkeras.weights.tf_checkpoints import EMA_SUFFIX

CLASSIFIERS = ["efficientnet-b0_96.npz", "efficientnet-lite0_96.npz", "efficientnetv2-b0_96.npz"]
DETECTORS = ["efficientdet-d0_128.npz", "efficientdet-lite0_160.npz"]


def proven_golden(file: str) -> object:
    return pytest.param(file, marks=proves(file.split("_")[0], AUTHORS), id=file)


@pytest.fixture(scope="module", params=[proven_golden(file) for file in CLASSIFIERS + DETECTORS])
def case(request, tmp_path_factory) -> tuple[Golden, keras.Model]:
    golden = read_golden(request.param)
    # The plain variables hold nonsense, so that the test fails unless the averaged twins are taken.
    weights = golden.weights()
    stored = {name + EMA_SUFFIX: value for name, value in weights.items()}
    stored |= {name: np.full_like(value, 7) for name, value in weights.items()}
    stored |= {name + "/Momentum": value for name, value in weights.items()}
    stored["global_step"] = np.int64(3)
    prefix = write_checkpoint(tmp_path_factory.mktemp("official"), stored)
    size = (golden.size, golden.size)
    model = effkeras.build(golden.name, input_shape=size, weights=prefix, activation=None)
    return golden, model


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-3 * theirs.std()


def test_every_official_variable_is_used(case):
    golden, model = case
    assert len(golden.meta["variables"]) == len(model.weights)


def test_trainable_parameters(case):
    golden, model = case
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == golden.meta["trainable"]


def test_outputs(case):
    golden, model = case
    outputs = outputs_of_model(model, golden.arrays["image"].astype("float32"))
    if golden.name.startswith("efficientnet"):
        close(outputs, golden.arrays["logits"])
    else:
        close(outputs["class_logits"], _rows(golden, "class", 90))
        close(outputs["box_deltas"], _rows(golden, "box", 4))


@pytest.mark.parametrize("file", DETECTORS)
def test_anchors(file):
    golden = read_golden(file)
    spec = with_size(effkeras.spec(golden.name), (golden.size, golden.size))
    assert np.abs(anchor_boxes(spec) - golden.arrays["anchors"]).max() < 1e-3


@pytest.mark.parametrize("method", ["gaussian", "hard"])
@pytest.mark.parametrize("file", DETECTORS)
def test_nms(file, method):
    golden = read_golden(file)
    nms = dataclasses.replace(effkeras.spec(golden.name).nms, method=method)
    decoder = Decoder(golden.arrays["anchors"], (golden.size, golden.size), nms)
    found = decoder(_rows(golden, "class", 90)[0], _rows(golden, "box", 4)[0])
    valid = int(golden.arrays[f"{method}_valid"][0])
    assert len(found) == valid
    np.testing.assert_allclose(found.scores, golden.arrays[f"{method}_scores"][0, :valid], atol=1e-5)
    np.testing.assert_allclose(found.boxes, golden.arrays[f"{method}_boxes"][0, :valid], atol=1e-2)
    np.testing.assert_array_equal(found.classes + 1, golden.arrays[f"{method}_classes"][0, :valid])


def _rows(golden: Golden, head: str, width: int) -> np.ndarray:
    keys = sorted(key for key in golden.arrays if key.startswith(f"{head}_"))
    return np.concatenate([golden.arrays[key].reshape(1, -1, width) for key in keys], axis=1)
