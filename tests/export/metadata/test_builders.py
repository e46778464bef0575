from __future__ import annotations

import numpy as np
import pytest
from support.tiny_models import quantized, tiny_model, tiny_spec

from effkeras import EffkerasError
from effkeras.definitions.changes import with_heads
from effkeras.detection.boxes import anchor_boxes
from effkeras.litert.flatbuffer import interface
from effkeras.litert.metadata.coding import DETECTOR_ENTRY, anchors_in
from effkeras.litert.rewriting import name_interface
from effkeras.litert.runner import LiteRTModel, definition_of
from export.metadata import Boxes, Image, Normalization, ScoreCalibration, of_classifier, of_detector
from export.metadata.builders import Extras

CLASSES = ("cat", "dog", "cow")
DETECTOR, CLASSIFIER = "efficientdet-lite0", "efficientnet-lite0"


def described(name: str, recipe: str, io: str = "float32", **extras):
    flatbuffer = quantized(name, recipe, io).flatbuffer
    build = of_detector if tiny_spec(name).is_detector else of_classifier
    return build(definition_of(flatbuffer), CLASSES, flatbuffer, Extras(**extras))


@pytest.mark.parametrize("name", [DETECTOR, CLASSIFIER, "efficientnet-b0"])
def test_a_network_that_normalises_inside_takes_pixels(name):
    (note,) = described(name, "float32").inputs
    assert note.content.properties == Image("RGB")
    assert note.units == (Normalization((0.0,), (1.0,)),)
    assert (note.low, note.high) == ((0.0,), (255.0,))


@pytest.mark.parametrize(("io", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127)])
def test_what_a_quantized_input_absorbs_is_said_exactly(io, low, high):
    """Lite's (pixel - 127) / 128, judged by what the input's scale makes of every pixel."""
    (note,) = described(CLASSIFIER, "int8", io).inputs
    assert note.units == (Normalization((127.0,), (128.0,)),)
    assert (note.low, note.high) == ((float(low),), (float(high),))
    (edge,) = interface(quantized(CLASSIFIER, "int8", io).flatbuffer).inputs
    codes = np.arange(low, high + 1)
    np.testing.assert_array_equal((codes - edge.zero_point) * edge.scale, (np.arange(256) - 127) / 128)


def test_a_quantized_input_that_absorbs_nothing_takes_pixels():
    (note,) = described("efficientnet-b0", "int8", "uint8").inputs
    assert note.units == (Normalization((0.0,), (1.0,)),)


def test_a_float_input_says_what_it_is_told():
    given = Normalization((123.0, 116.0, 103.0), (58.0, 57.0, 56.0))
    (note,) = described(CLASSIFIER, "float32", normalization=given).inputs
    assert note.units == (given,)
    assert note.low == pytest.approx((-123 / 58, -116 / 57, -103 / 56))
    assert note.high == pytest.approx((132 / 58, 139 / 57, 152 / 56))


def test_a_classifier_has_labels_for_its_last_axis():
    made = described(CLASSIFIER, "int8")
    (note,) = made.outputs
    assert made.files == {"labels.txt": b"cat\ndog\ncow\n"}
    assert [(file.name, file.kind) for file in note.files] == [("labels.txt", "TENSOR_AXIS_LABELS")]
    assert (note.low, note.high) == ((0.0,), (1.0,))  # it ends in a softmax
    assert made.name == CLASSIFIER
    assert made.custom == {}


def test_scores_are_calibrated_where_asked_for():
    made = described(CLASSIFIER, "int8", calibration=(ScoreCalibration("LOG", 0.5), b"1,2,0\n1,3,0\n\n"))
    (note,) = made.outputs
    assert note.units == (ScoreCalibration("LOG", 0.5),)
    assert made.files["score_calibration.csv"] == b"1,2,0\n1,3,0\n"  # as MediaPipe counts, three lines
    assert note.files[-1].kind == "TENSOR_AXIS_SCORE_CALIBRATION"
    with pytest.raises(EffkerasError, match="the score calibration: 2 lines for 3 classes"):
        described(CLASSIFIER, "int8", calibration=(ScoreCalibration(), b"1,1,1\n1,1,1"))


def test_raw_heads_carry_their_anchors():
    made = described(DETECTOR, "int8")
    boxes, scores = made.outputs
    assert boxes.content.properties == Boxes((1, 0, 3, 2), "BOUNDARIES", "RATIO")
    assert scores.files[0].kind == "TENSOR_AXIS_LABELS"
    spec = tiny_spec(DETECTOR)
    height, width = spec.input.size
    np.testing.assert_allclose(
        anchors_in(made), anchor_boxes(spec) / np.array([height, width, height, width]), atol=1e-6
    )
    assert set(made.custom) == {DETECTOR_ENTRY}
    assert made.groups == ()


def with_names(*names: str) -> bytes:
    """A detector's file whose outputs are called otherwise."""
    flatbuffer = quantized(DETECTOR, "float32").flatbuffer
    return name_interface(flatbuffer, ["image"], names)


def test_outputs_of_nobody_are_refused():
    with pytest.raises(EffkerasError, match="a, b are not those of a detector"):
        of_detector(tiny_spec(DETECTOR), CLASSES, with_names("a", "b"))


def test_outputs_are_told_by_their_names():
    made = of_detector(tiny_spec(DETECTOR), CLASSES, with_names("detection_scores", "detection_boxes"))
    scores, boxes = made.outputs
    assert (scores.name, boxes.name) == ("score", "location")
    assert boxes.content.dimensions == (2, 2)
    assert made.groups[0].tensors == ("location", "category", "score")
    assert made.groups[0].name == "detection_result"
    assert made.custom == {}


def test_masks_have_labels_of_their_own():
    spec = with_heads(tiny_spec(DETECTOR).replace(labels=CLASSES), ("detect", "segment"))
    made = of_detector(spec, CLASSES, with_names("mask_logits", "box_deltas"))
    (mask,) = (note for note in made.outputs if note.name == "mask")
    assert made.files["mask_labels.txt"] == b"background\ncat\ndog\ncow\n"
    assert mask.files[0].name == "mask_labels.txt"


@pytest.mark.parametrize("labels", [("cat",), ("cat", "dog", "cow", "hen")])
def test_as_many_labels_as_classes(labels):
    flatbuffer = quantized(CLASSIFIER, "float32").flatbuffer
    with pytest.raises(EffkerasError, match=rf"{len(labels)} labels for 3 classes"):
        of_classifier(tiny_spec(CLASSIFIER), labels, flatbuffer)


def test_without_labels_there_is_no_file():
    flatbuffer = quantized(CLASSIFIER, "float32").flatbuffer
    made = of_classifier(tiny_spec(CLASSIFIER), (), flatbuffer)
    assert made.files == {}
    assert made.outputs[0].files == ()


def test_a_detector_is_no_classifier():
    with pytest.raises(EffkerasError, match="one output"):
        of_classifier(tiny_spec(DETECTOR), CLASSES, quantized(DETECTOR, "float32").flatbuffer)


def test_the_models_are_those_of_the_fixtures():
    runner = LiteRTModel.of_bytes(quantized(CLASSIFIER, "float32").flatbuffer)
    assert runner.spec == tiny_spec(CLASSIFIER)
    assert tiny_model(CLASSIFIER).output_shape == (None, 3)
