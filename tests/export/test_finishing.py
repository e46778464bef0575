"""What a consumer gets: the network with NMS, names and metadata, or why it cannot run it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fed_heads import fed_heads, heads, run, spec_with
from support.tiny_models import quantized, random_images, tiny_spec

from effkeras import EffkerasError
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.nms import BOXES, CLASSES, COUNT, SCORES, Decoder, Detections
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.flatbuffer import interface, operators
from effkeras.litert.nodes import nodes
from effkeras.litert.rewriting import attach
from effkeras.litert.runner import OUTPUTS, LiteRTModel
from export.consumers import consumer as known
from export.consumers.consumer import Nms, Target, nms_settings, target_for
from export.finishing import Finish, by_role, with_nms
from export.metadata import read
from quantize.formats import find as recipe

DETECTOR = "efficientdet-lite0"
CLASSIFIER = "efficientnet-lite0"
KINDS: tuple[Nms, ...] = ("postprocess", "soft", "hard")
CONSUMERS = [
    ("raw", "soft"),
    ("mediapipe", "soft"),
    ("mediapipe", "postprocess"),
    ("coral", "soft"),
    ("coral", "postprocess"),
]


def finish(name: str, consumer: str, made_as: str = "int8", io: str | None = None) -> Finish:
    return Finish(tiny_spec(name), target_for(consumer, recipe(made_as), io).fitting(tiny_spec(name)))


@pytest.mark.parametrize("name", [DETECTOR, CLASSIFIER])
@pytest.mark.parametrize("consumer", ["mediapipe", "coral", "xnnpack", "raw"])
def test_lite_models_in_int8_suit_everyone(name, consumer):
    made = finish(name, consumer)
    network = made.network(quantized(name, "int8", made.target.io).flatbuffer)
    assert made.problems(network) == ()
    artifact = made(network)
    said = read(artifact)
    assert len(said.outputs) == (1 if name == CLASSIFIER else 4 if consumer in ("mediapipe", "coral") else 2)
    assert LiteRTModel.of_bytes(artifact).spec == tiny_spec(name)


@pytest.mark.parametrize(("made_as", "io"), [("float32", "float32"), ("int8", "int8")])
def test_xnnpack_runs_a_detector_in_one_piece(made_as, io):
    network = quantized(DETECTOR, made_as, io).flatbuffer
    assert finish(DETECTOR, "xnnpack", made_as, io).problems(network) == ()


def test_only_for_xnnpack_a_large_map_is_computed_in_row_tiles():
    pixels = keras.Input((160, 160, 8))
    wide = keras.layers.Conv2D(96, 1, activation="relu")(pixels)
    content = to_flatbuffer(keras.Model(pixels, keras.layers.DepthwiseConv2D(3, 2)(wide)))
    counts = {who: len(nodes(finish(CLASSIFIER, who).network(content))) for who in ("raw", "xnnpack")}
    assert counts == {"raw": 2, "xnnpack": 4 * 3 + 1}


def test_what_an_edge_tpu_does_not_run_is_a_problem_with_its_reason():
    (problem,) = finish(DETECTOR, "coral").problems(quantized(DETECTOR, "float32").flatbuffer)
    assert problem.startswith("an Edge TPU does not run the whole network, but 0 of ")
    assert "ends at" in problem


def test_layers_left_in_float_would_stop_an_edge_tpu():
    assert not finish(DETECTOR, "coral").takes_mixed
    assert finish(DETECTOR, "mediapipe").takes_mixed


def target(consumer: str, nms: Nms) -> Target:
    return Target(known.CONSUMERS.get(consumer), "float32", nms)


def evaluator(spec: ModelSpec, nms: Nms) -> Decoder:
    decoder = Decoder.of(spec)
    return dataclasses.replace(decoder, nms=nms_settings(decoder.nms, nms))


def same(got: Detections, wanted: Detections) -> None:
    """The same but for rounding, which may swap neighbours, and at the end another box for the last one."""
    assert len(got) == len(wanted)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-5)
    for box, score, label in zip(got.boxes, got.scores, got.classes, strict=True):
        there = (wanted.classes == label) & (np.abs(wanted.scores - score) < 1e-5)
        found = np.abs(wanted.boxes[there] - box).max(axis=-1, initial=0) < 1e-3
        assert found.any() or score < wanted.scores[-1] + 1e-5


@pytest.mark.parametrize("consumer", ["mediapipe", "coral"])
def test_unless_asked_otherwise_boxes_are_suppressed_as_the_model_is_measured(consumer):
    own = Decoder.of(tiny_spec(DETECTOR))
    assert own.nms.method == "gaussian"
    assert finish(DETECTOR, consumer).decoder.nms == own.nms


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    most=st.integers(1, 120),
    overlap=st.sampled_from([0.2, 0.5, 0.75, 1.0]),
    sigma=st.sampled_from([0.1, 0.5, 2.0]),
    score=st.sampled_from([0.001, 0.2, 0.6]),
    inputs=st.sampled_from([0, 50, 1000, 10**6]),
)
def test_detections_are_the_evaluators(kind, seed, most, overlap, sigma, score, inputs):
    spec = spec_with(
        max_detections=most, iou_threshold=overlap, sigma=sigma, score_threshold=score, max_inputs=inputs
    )
    logits, deltas = heads(spec, seed)
    artifact = with_nms(fed_heads(spec), spec, target("raw" if kind != "postprocess" else "coral", kind))
    wanted = evaluator(spec, kind)(logits, deltas)
    outputs = run(artifact, logits, deltas)
    # Hard suppression of the evaluator has no score threshold; boxes below it suppress nothing above it.
    same(Decoder.of(spec).found(outputs), wanted.above(np.nextafter(np.float32(score), np.float32(1))))
    assert outputs[SCORES].shape == (most,)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_do_not_count_are_zero(kind):
    spec = spec_with(score_threshold=0.9, max_detections=100)
    artifact = with_nms(fed_heads(spec), spec, target("coral", kind))
    run(artifact, *heads(spec, mean=4))  # fills the memory with a hundred boxes
    logits, deltas = heads(spec, mean=-6)
    logits[3, 1], logits[99, 2] = 5.0, 6.0
    outputs = run(artifact, logits, deltas)
    count = int(outputs[COUNT])
    assert count == 2
    for name in (BOXES, SCORES, CLASSES):
        assert not outputs[name][count:].any()
        assert np.isfinite(outputs[name]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found_is_nothing(kind):
    spec = spec_with(score_threshold=0.9)
    outputs = run(with_nms(fed_heads(spec), spec, target("coral", kind)), *heads(spec, mean=-50))
    assert outputs[COUNT] == 0
    assert not outputs[SCORES].any()
    assert len(Decoder.of(spec).found(outputs)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_stay_inside_the_image(kind):
    spec = spec_with()
    logits, deltas = heads(spec)
    outputs = run(with_nms(fed_heads(spec), spec, target("coral", kind)), logits, deltas + 0.8)
    assert outputs[BOXES].min() >= 0
    assert outputs[BOXES].max() == 1


def test_soft_suppression_keeps_second_guesses():
    """The same box in two classes: the weaker one stays, its score lowered by exp(-1 / sigma)."""
    spec = spec_with(max_inputs=1000, sigma=0.5)
    logits, deltas = heads(spec, mean=-30)
    logits[500] = [4.0, 3.0, -30, -30]
    found = Decoder.of(spec).found(
        run(with_nms(fed_heads(spec), spec, target("raw", "soft")), logits, deltas)
    )
    assert found.classes[:2].tolist() == [0, 1]
    np.testing.assert_allclose(found.scores[1], np.exp(-2) / (1 + np.exp(-3)), rtol=1e-4)
    np.testing.assert_array_equal(found.boxes[0], found.boxes[1])


@pytest.mark.parametrize(
    ("recipe", "io"), [("float32", "float32"), ("int8", "float32"), ("int8", "int8"), ("int8", "uint8")]
)
@pytest.mark.parametrize("kind", ["postprocess", "soft"])
def test_the_network_stays_as_it_was_quantized(recipe, io, kind):
    spec = tiny_spec(DETECTOR)
    plain = LiteRTModel.of_bytes(quantized(DETECTOR, recipe, io).flatbuffer, xnnpack=False)
    own = LiteRTModel.of_bytes(with_nms(plain.flatbuffer, spec, target("mediapipe", kind)), xnnpack=False)
    shown = random_images(2)
    wanted, got = plain(shown), own(shown)
    decoder = evaluator(spec, kind)
    for image in range(len(shown)):
        one = decoder.found({name: values[image] for name, values in wanted.items()})
        other = decoder.found({name: values[image] for name, values in got.items()})
        # Equal 8-bit logits have no order in the built-in operators, and each choice has consequences.
        count = min(len(one), len(other), 5 if kind == "soft" and recipe == "int8" else 100)
        np.testing.assert_allclose(other.scores[:count], one.scores[:count], atol=1e-5)
        if kind == "postprocess" or recipe == "float32":
            same(other, one.above(0.001))


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_heads_go_to_float_by_one_conversion_each(io):
    plain = quantized(DETECTOR, "int8", io).flatbuffer
    names = [
        op.name for op in operators(with_nms(plain, tiny_spec(DETECTOR), target("coral", "postprocess")))
    ]
    assert names.count("DEQUANTIZE") == 2
    assert names.count("QUANTIZE") == [op.name for op in operators(plain)].count("QUANTIZE") - 2 * (
        io == "uint8"
    )


@pytest.mark.parametrize(("consumer", "kind"), CONSUMERS)
def test_outputs_have_the_consumers_order_and_names(consumer, kind):
    spec = spec_with()
    artifact = with_nms(fed_heads(spec), spec, target(consumer, kind))
    found = interface(artifact)
    wanted = known.CONSUMERS.get(consumer).outputs
    assert [edge.name for edge in found.outputs] == [one.signature for one in wanted]
    assert [len(edge.shape) for edge in found.outputs] == [3, 2, 2, 1]
    assert {edge.dtype for edge in found.outputs} == {"float32"}
    assert [one.holds for one in wanted] == [BOXES, CLASSES, SCORES, COUNT]
    made = {tensor.index: tensor.name for op in operators(artifact) for tensor in op.outputs}
    assert [made[edge.tensor] for edge in found.outputs] == [one.tensor for one in wanted]
    assert [edge.name for edge in interface(by_role(artifact)).outputs] == [BOXES, CLASSES, SCORES, COUNT]


def test_without_nms_nothing_changes():
    spec = spec_with()
    plain = fed_heads(spec)
    assert with_nms(plain, spec, target("raw", "none")) == plain


def test_a_file_without_heads_is_refused():
    spec = spec_with()
    twice = with_nms(fed_heads(spec), spec, target("mediapipe", "postprocess"))
    with pytest.raises(EffkerasError, match="no output 'class_logits'"):
        with_nms(twice, spec, target("mediapipe", "postprocess"))


@pytest.mark.parametrize("note", [b"\xff", b"[1]", b"{"])
def test_a_damaged_note_about_outputs_is_refused(note):
    with pytest.raises(EffkerasError, match="damaged"):
        LiteRTModel.of_bytes(attach(quantized(DETECTOR, "float32").flatbuffer, OUTPUTS, note))
