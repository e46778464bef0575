from __future__ import annotations

import pytest
from support.fed_heads import spec_with

import effkeras
from effkeras import EffkerasError
from effkeras.definitions.definition import NmsSpec
from effkeras.detection.nms import BOXES, CLASSES, COUNT, SCORES
from effkeras.inference.task import TASKS
from effkeras.inference.tasks.classification import Classification
from export.consumers.consumer import CONSUMERS, NMS, nms_settings, target_for
from quantize import formats


@pytest.mark.parametrize("name", ["raw", "mediapipe", "coral", "xnnpack"])
def test_every_consumer_is_whole(name):
    one = CONSUMERS.get(name)
    assert one.name == name
    assert set(one.nms) <= set(NMS)
    assert [output.holds for output in one.outputs] == [BOXES, CLASSES, SCORES, COUNT]
    assert len({output.signature for output in one.outputs}) == 4
    assert set(one.formats) <= set(formats.names())
    assert one.sources or name in ("raw", "xnnpack")  # what others want is cited


@pytest.mark.parametrize(
    ("name", "recipe", "io", "nms"),
    [
        ("raw", "int8", "float32", "none"),
        ("raw", "fp16", "float32", "none"),
        ("mediapipe", "int8", "uint8", "soft"),
        ("mediapipe", "float32", "float32", "soft"),
        ("coral", "int8", "uint8", "soft"),
        ("xnnpack", "dynamic", "float32", "none"),
    ],
)
def test_what_is_not_said_is_the_consumers_own(name, recipe, io, nms):
    target = target_for(name, formats.find(recipe))
    assert (target.io, target.nms) == (io, nms)


def test_what_is_said_holds():
    target = target_for("mediapipe", formats.find("int8"), "float32", "hard")
    assert (target.io, target.nms, target.words()) == ("float32", "hard", ("mediapipe", "float32", "hard"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("corral", "int8"), "did you mean 'coral'"),
        (("coral", "fp16"), "coral runs int8 only, not fp16; use --recipe int8"),
        (("coral", "int4"), "coral runs int8 only"),
        (("coral", "int8", "float32"), "coral takes uint8 or int8, not float32"),
        (("mediapipe", "int8", "int8"), "mediapipe takes uint8 or float32, not int8"),
        (("raw", "int8", "uint9"), "did you mean 'uint8'"),
        (("raw", "dynamic", "uint8"), "computes activations in float32"),
        (("raw", "int8", None, "sof"), "did you mean 'soft'"),
        (("raw", "int8", None, "postprocess"), "raw goes with --nms none, soft, hard"),
        (("mediapipe", "int8", None, "none"), "mediapipe goes with --nms soft, postprocess"),
    ],
)
def test_what_a_consumer_does_not_take_is_one_clear_error(arguments, message):
    name, recipe, *rest = arguments
    with pytest.raises(EffkerasError, match=message):
        target_for(name, formats.find(recipe), *rest)


def test_a_segmentation_model_is_not_for_mediapipe():
    spec = effkeras.definitions.changes.with_heads(spec_with(), ["detect", "segment"])
    message = "takes a classifier or a detector, and .* is a segmenter; use --for with one of raw, xnnpack"
    with pytest.raises(EffkerasError, match=message):
        target_for("mediapipe", formats.find("int8")).fitting(spec)
    assert target_for("raw", formats.find("int8"), nms="soft").fitting(spec).nms == "soft"


def test_a_new_kind_of_model_is_for_your_own_code(monkeypatch):
    """A task of another module: its model is refused by those who state what they take."""
    new = type("Depth", (Classification,), {"model": "depth estimator", "applies": lambda self, spec: True})()
    monkeypatch.setattr(TASKS, "_entries", {"depth": new})
    with pytest.raises(EffkerasError, match="is a depth estimator; use --for with one of raw, xnnpack"):
        target_for("mediapipe", formats.find("int8")).fitting(spec_with())
    assert target_for("raw", formats.find("int8")).fitting(spec_with()).consumer.name == "raw"


def test_a_classifier_has_no_nms():
    spec = effkeras.spec("efficientnet-lite0")
    assert target_for("coral", formats.find("int8")).fitting(spec).nms == "none"


@pytest.mark.parametrize(
    ("kind", "method", "inputs"),
    [("none", "gaussian", 7), ("soft", "gaussian", 7), ("hard", "hard", 7), ("postprocess", "hard", 0)],
)
def test_the_evaluators_words_for_each_nms(kind, method, inputs):
    made = nms_settings(NmsSpec(max_inputs=7, sigma=0.3), kind)
    assert (made.method, made.max_inputs, made.sigma) == (method, inputs, 0.3)


def test_files_of_different_targets_have_different_names():
    target = target_for("raw", formats.find("int8"))
    assert target.words() == ()
    made = {
        target_for(name, formats.find("int8"), io, nms).words()
        for name, one in CONSUMERS.entries().items()
        for io in one.io
        for nms in one.nms
    }
    assert len(made) == sum(len(one.io) * len(one.nms) for one in CONSUMERS.entries().values())
