"""Heat maps lie where the object is, and only if the weights have learned something."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support.tiny import digits_folder, tiny_classifier, tiny_detector

import effkeras
from effkeras import cli
from effkeras.data.images import read_image
from effkeras.data.splits import open_data
from effkeras.detection.boxes import iou
from effkeras.inference.explain import Explainer, network_pixels, overlay, share_inside
from effkeras.inference.predictor import KerasPredictor
from effkeras.weights.keras_files import save


def shares(explainer: Explainer, digits, wanted: int, *, occlusion: bool = False) -> list[float]:
    """Of each true digit that is found, the share of its map that lies in its true box."""
    found: list[float] = []
    for record in open_data(digits, "test").records:
        pixels = network_pixels(read_image(record.path), explainer.spec)
        targets = explainer.targets(pixels, 0.3, 20)
        true = [record.boxes[iou(one.box, record.boxes).argmax()] for one in targets]
        pairs = [
            (one, box) for one, box in zip(targets, true, strict=True) if iou(one.box, box[None])[0] > 0.5
        ][: wanted - len(found)]
        explain = explainer.occlusion if occlusion else explainer.grad_cam
        heats = explain(pixels, [one for one, _ in pairs]) if pairs else []
        found += [share_inside(heat, box) for heat, (_, box) in zip(heats, pairs, strict=True)]
    return found


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Images of the shipped detector's size with about 200 digits."""
    folder = tmp_path_factory.mktemp("explain") / "digits"
    return digits_folder(folder, train=1, val=1, test=45)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return effkeras.build("efficientdet-digits", weights="digits")


@pytest.fixture(scope="module")
def shipped(model) -> Explainer:
    return Explainer.of(KerasPredictor.of(model))


@pytest.mark.parametrize(
    "count",
    [pytest.param(60, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.nightly("training"))],
)
def test_maps_lie_in_the_true_boxes(count, shipped, digits):
    found = shares(shipped, digits, count)
    assert len(found) == count
    assert np.mean(np.array(found) >= 0.5) >= 0.8


@pytest.mark.slow
def test_occlusion_agrees(shipped, digits):
    found = shares(shipped, digits, 5, occlusion=True)
    assert np.mean(np.array(found) >= 0.4) >= 0.8


@pytest.mark.slow
def test_shuffled_weights_look_nowhere(model, shipped, digits):
    """The boxes of the trained network, explained by a network with the same weights in another order."""
    rng = np.random.default_rng(0)
    shuffled = keras.models.clone_model(model)
    for own, copy in zip(model.weights, shuffled.weights, strict=True):
        values = np.asarray(own)
        copy.assign(rng.permutation(values.ravel()).reshape(values.shape) if own.trainable else values)
    other = Explainer.of(KerasPredictor(shuffled, shipped.spec))
    found = []
    for record in open_data(digits, "test").records[:8]:
        pixels = network_pixels(read_image(record.path), shipped.spec)
        targets = shipped.targets(pixels, 0.3, 20)
        heats = other.grad_cam(pixels, targets)
        found += [share_inside(heat, one.box) for heat, one in zip(heats, targets, strict=True)]
    assert np.mean(np.array(found) >= 0.5) < 0.5


def test_a_map_of_known_shares():
    heat = np.zeros((20, 20), np.float32)
    heat[4:8, 4:8], heat[15, 15] = 1, 16
    assert share_inside(heat, np.array([4.0, 4, 8, 8])) == 0.5
    assert share_inside(heat, np.array([0.0, 0, 20, 20])) == 1
    assert share_inside(np.zeros((4, 4)), np.array([0.0, 0, 4, 4])) == 0
    assert overlay(np.full((20, 20, 3), 100, np.float32), heat / 16).dtype == np.uint8


@pytest.mark.parametrize("spec", [tiny_classifier(), tiny_detector()], ids=["classifier", "detector"])
def test_the_command_writes_a_page_an_image(spec, tmp_path, capsys):
    save(effkeras.build(spec), tmp_path / "tiny.keras")
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(
            tmp_path / name
        )
    words = ["explain", tmp_path / "tiny.keras", tmp_path, "--min-score", "0", "--occlusion", "--top", "1"]
    assert cli.main([*map(str, words), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    with Image.open(tmp_path / "out" / "a.png") as page:
        assert page.width == 1600
    assert "2 pages are in" in capsys.readouterr().err


def test_an_artifact_has_no_gradients(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ["explain", str(tmp_path / "missing.tflite"), str(tmp_path / "a.png")]
    assert cli.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
