"""Classifiers and detectors of other tools run as those of effkeras do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.handmade import Op, Tensor
from support.handmade import flatbuffer as made_of
from support.small_tflite import small_tflite
from support.tiny import random_images
from support.tiny_models import SIDE, quantized, tiny_spec

from effkeras import EffkerasError
from effkeras.cli import main
from effkeras.inference.predictor import open_predictor
from effkeras.litert.archive import without_files
from effkeras.litert.foreign.model import ForeignModel
from effkeras.litert.foreign.options import ForeignOptions
from effkeras.litert.metadata.coding import TABLE
from effkeras.litert.runner import DEFINITION, LiteRTModel
from export.consumers.consumer import target_for
from export.finishing import Finish
from quantize.formats import find

DETECTOR = "efficientdet-lite0"
SHARED = Path(__file__).parents[4] / "shared" / "real"
AS_PIXELS = ForeignOptions(mean=(0.0,), std=(1.0,))


def without(content: bytes, *entries: str) -> bytes:
    """A file in which nobody finds these metadata entries."""
    for entry in entries:
        content = content.replace(entry.encode(), b"x" * len(entry))
    return content


@pytest.fixture(scope="module")
def detector() -> bytes:
    target = target_for("mediapipe", find("float32"), None, "postprocess").fitting(tiny_spec(DETECTOR))
    return Finish(tiny_spec(DETECTOR), target)(quantized(DETECTOR, "float32").flatbuffer)


def test_a_classifier_says_by_its_metadata_what_it_takes_and_gives():
    ours, theirs = (
        LiteRTModel.of_bytes(small_tflite()),
        ForeignModel.of_bytes(without(small_tflite(), DEFINITION), "theirs"),
    )
    assert theirs.spec.labels == tuple(f"class {i}" for i in range(10))
    assert theirs.spec.input.size == ours.spec.input.size
    images = random_images(3, theirs.spec.input.size[0])
    (expected,) = ours(images).values()
    np.testing.assert_array_equal(theirs(images)["probabilities"], expected)


def test_a_detector_gives_what_its_four_outputs_say(detector):
    theirs = ForeignModel.of_bytes(without(detector, DEFINITION, TABLE), "theirs", AS_PIXELS)
    assert theirs.spec.detects
    images = random_images(2, SIDE)
    expected = LiteRTModel.of_bytes(detector)(images)
    assert {name: values.tolist() for name, values in theirs(images).items()} == {
        name: values.tolist() for name, values in expected.items()
    }


def test_a_class_without_a_label_is_refused(detector):
    named = replace(AS_PIXELS, labels=("a", "b", "c"))
    theirs = ForeignModel.of_bytes(without(detector, DEFINITION), "theirs", named)
    assert theirs.spec.labels == named.labels
    outputs = {"detection_classes": np.array([[0.0, 99.0]]), "num_detections": np.array([1.0])}
    theirs._check_classes(outputs)
    with pytest.raises(EffkerasError, match=r"finds class 99, .*--labels"):
        theirs._check_classes(outputs | {"num_detections": np.array([2.0])})


def test_predict_takes_it_with_the_options_that_it_needs(tmp_path, capsys):
    file, image = tmp_path / "theirs.tflite", tmp_path / "one.png"
    file.write_bytes(without(without_files(small_tflite()), DEFINITION, TABLE))
    Image.new("RGB", (40, 30), "red").save(image)
    (tmp_path / "names.txt").write_text("".join(f"name {i}\n" for i in range(9)))
    words = ["predict", str(file), str(image)]
    assert main(words) == 0
    assert {one["label"] for one in json.loads(capsys.readouterr().out)["classes"]} <= set("0123456789")
    assert main([*words, "--labels", str(tmp_path / "names.txt")]) == 0
    said = capsys.readouterr()
    assert "the first output is the background" in said.err
    for one in json.loads(said.out)["classes"]:
        assert one["label"] == (f"name {one['class'] - 1}" if one["class"] else "background")
    assert main([*words, "--mean", "1,2"]) == 2
    assert "is not one number, or three" in capsys.readouterr().err
    file.write_bytes(small_tflite())
    assert main([*words, "--std", "1"]) == 2
    assert "--std goes with a .tflite of another tool" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            Op("RELU", [Tensor((1, 8, 8, 3))], [Tensor((1, 8, 8, 3))]),
            r"its output is int8 \[1, 8, 8, 3\]; known",
        ),
        (Op("ADD", [Tensor((1, 4, 4, 3)), Tensor((1, 4, 4, 3))], [Tensor((1, 4, 4, 3))]), "has 2 inputs"),
        (Op("RELU", [Tensor((1, 12))], [Tensor((1, 12))]), "12 numbers .*--labels"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path, op, message):
    file = tmp_path / "theirs.tflite"
    file.write_bytes(made_of(op))
    with pytest.raises(EffkerasError, match=rf"theirs\.tflite: .*{message}"):
        open_predictor(file)


@pytest.mark.skipif(not SHARED.is_dir(), reason="Coral's published files and images of ImageNet are not here")
def test_a_published_classifier_reaches_its_accuracy(tmp_path, capsys):
    """Over all 500 images its top-1 is 0.901; here every fifth."""
    for image in sorted((SHARED / "imagenet").glob("*.JPEG"))[::5]:
        folder = tmp_path / "data" / "test" / image.name.partition("_")[0]
        folder.mkdir(parents=True)
        (folder / image.name).symlink_to(image)
    file = SHARED / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    assert main(["eval", str(file), "--data", str(tmp_path / "data")]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.split()[:1] == ["top1"]]
    assert float(line.split()[1]) == pytest.approx(0.9, abs=0.05)
