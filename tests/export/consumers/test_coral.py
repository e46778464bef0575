"""What pycoral reads from our files, by its documented contract (adapters: common, detect, classify)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from support.fed_heads import fed_heads, heads, spec_with
from support.tiny_models import quantized, random_images, tiny_spec

from effkeras.detection.nms import Decoder
from effkeras.litert.runner import LiteRTModel, make_interpreter
from export.consumers.consumer import CONSUMERS, target_for
from export.finishing import with_nms
from quantize.formats import find as recipe

NAME = "efficientdet-lite0"


@dataclass(frozen=True)
class Seen:
    """An object as pycoral reports it: corners in input pixels, cut to whole numbers."""

    label: int
    score: float
    box: tuple[int, int, int, int]


def by_order(interpreter: Any) -> list[np.ndarray]:
    """Boxes, classes, scores and count: before 2.0 always, later without a signature."""
    found = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    assert found[3].size == 1  # how 2.0 recognises this order
    return [found[0][0], found[1][0], found[2][0], found[3][0]]


def by_signature(interpreter: Any) -> list[np.ndarray]:
    """The same by names: 2.0, for a file with a signature."""
    (signature,) = interpreter._get_full_signature_list().values()
    tensors = signature["outputs"]
    return [interpreter.get_tensor(tensors[f"output_{place}"])[0] for place in (3, 2, 1, 0)]


def objects(interpreter: Any, read: Any, threshold: float = -np.inf) -> list[Seen]:
    """Everything with at least this score; 2.0 looks at all rows, whatever the count says."""
    boxes, classes, scores, count = read(interpreter)
    _, height, width, _ = interpreter.get_input_details()[0]["shape"]
    rows = range(len(scores)) if read is by_signature else range(int(count))
    scale = np.array([height, width, height, width])
    seen = [Seen(int(classes[i]), float(scores[i]), tuple((boxes[i] * scale).astype(int))) for i in rows]
    return [one for one in seen if one.score >= threshold]


def read_label_file(text: str) -> dict[int, str]:
    """By the documented format: a line is a label, or a number, then a colon or spaces, then a label."""
    found = {}
    for number, line in enumerate(text.splitlines()):
        first, *rest = re.split(r"[:\s]+", line.strip(), maxsplit=1)
        is_numbered = bool(rest) and first.isdigit()
        found[int(first) if is_numbered else number] = rest[0].strip() if is_numbered else line.strip()
    return found


def test_labels_that_begin_with_numbers_keep_their_places():
    """The trap: "2 euro" would be read as the name of class 2."""
    labels = ("2 euro", "1: one", "7", "cat", "two words", "0")
    wanted = dict(enumerate(labels))
    assert read_label_file("".join(f"{label}\n" for label in labels)) != wanted
    assert read_label_file(CONSUMERS.get("coral").label_file(labels)) == wanted


@pytest.fixture(scope="module", params=[None, "postprocess"])
def artifact(request):
    target = target_for("coral", recipe("int8"), nms=request.param)
    assert (target.io, target.nms) == ("uint8", request.param or "soft")
    return with_nms(quantized(NAME, "int8", target.io).flatbuffer, tiny_spec(NAME), target)


@pytest.mark.parametrize("read", [by_order, by_signature])
def test_get_objects_are_the_evaluators(artifact, read):
    shown = random_images(3)
    model, decoder = LiteRTModel.of_bytes(artifact), Decoder.of(tiny_spec(NAME))
    interpreter = make_interpreter(artifact)
    (entry,) = interpreter.get_input_details()
    assert entry["dtype"] == np.uint8
    for image in shown:
        interpreter.set_tensor(entry["index"], image[None].astype(np.uint8))
        interpreter.invoke()
        one = {name: values[0] for name, values in model(image[None]).items()}
        wanted = decoder.found(one).above(0.05)
        seen = objects(interpreter, read, 0.05)
        assert len(seen) == len(wanted) > 0
        for got, box, score, label in zip(seen, wanted.boxes, wanted.scores, wanted.classes, strict=True):
            assert (got.label, got.score) == (label, pytest.approx(float(score), abs=1e-6))
            assert got.box == tuple(int(value) for value in np.float32(box))


def test_rows_without_a_meaning_do_not_disturb_those_who_read_all():
    spec = spec_with(score_threshold=0.9)
    logits, deltas = heads(spec, mean=-9)
    logits[7] = 5.0
    flatbuffer = with_nms(fed_heads(spec), spec, target_for("coral", recipe("int8")))
    interpreter = make_interpreter(flatbuffer)
    for detail, values in zip(interpreter.get_input_details(), (logits, deltas), strict=True):
        interpreter.set_tensor(detail["index"], values[None])
    interpreter.invoke()
    boxes, classes, scores, count = by_signature(interpreter)
    assert count == 1
    assert [int(label) for label in classes[1:]] == [0] * 99  # NaN would not become a whole number
    assert not scores[1:].any()
    assert not boxes[1:].any()


def test_get_scores_of_a_classifier():
    """One output, dequantized by its own scale: probabilities of all classes."""
    flatbuffer = quantized("efficientnet-lite0", "int8", "uint8").flatbuffer
    interpreter, model = make_interpreter(flatbuffer), LiteRTModel.of_bytes(flatbuffer)
    (entry,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    for image in random_images(2):
        interpreter.set_tensor(entry["index"], image[None].astype(np.uint8))
        interpreter.invoke()
        scale, zero_point = answer["quantization"]
        codes = interpreter.get_tensor(answer["index"]).ravel().astype(np.int64)
        assert answer["dtype"] == np.uint8
        assert (scale, zero_point) == (1 / 256, 0)
        np.testing.assert_allclose((codes - zero_point) * scale, model(image[None])["probabilities"][0])


def test_the_contract_is_written_down_with_its_source():
    names = {one.holds: one.signature for one in CONSUMERS.get("coral").outputs}
    assert names["num_detections"] == "output_0"
    assert any("pycoral/adapters/detect.py" in source for source in CONSUMERS.get("coral").sources)
