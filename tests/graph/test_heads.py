"""Which heads a detector has: chosen in the definition, in `build` or by hand, and what is refused."""

from __future__ import annotations

import tomllib

import keras
import pytest
from support.tiny import tiny_detector

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_classes, with_heads
from effkeras.definitions.definition import SegmentSpec, spec_from_table
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import save
from effkeras.weights.loading import load_weights
from effkeras.weights.tf_checkpoints import official_names

BOTH = ["detect", "segment"]


def test_build_takes_heads():
    model = effkeras.build(tiny_detector(), heads=BOTH, classes=["cat", "dog"])
    assert model.output["mask_logits"].shape == (None, 16, 16, 3)
    assert spec_of(model).mask_labels == ("background", "cat", "dog")
    assert effkeras.build(tiny_detector(), heads=["segment"]).output.keys() == {"mask_logits"}


def test_mask_classes_follow_the_boxes_unless_they_are_stated():
    spec = with_heads(tiny_detector(), BOTH)
    assert (spec.mask_classes, spec.mask_labels[:2]) == (11, ("background", "0"))
    assert with_classes(spec, 3).mask_classes == 4
    assert with_classes(spec, 3).mask_labels == ()
    own = spec.replace(segment=SegmentSpec(2, ("ground", "road")))
    assert (own.mask_classes, own.mask_labels) == (2, ("ground", "road"))
    assert (tiny_detector().mask_classes, tiny_detector().mask_labels) == (0, ())


@pytest.mark.parametrize("heads", [BOTH, ["segment"], ["detect"], ["segment", "detect"]])
def test_heads_survive_being_written(heads):
    spec = with_heads(tiny_detector(), heads)
    assert spec_from_table(tomllib.loads(spec.to_toml()), "here") == spec
    assert (spec.detects, spec.segments) == ("detect" in heads, "segment" in heads)


def test_detect_alone_is_what_a_definition_means_that_says_nothing():
    spec = tiny_detector()
    assert with_heads(spec, ["detect"]) == spec
    assert with_heads(with_heads(spec, BOTH), ["detect"]) == spec


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["detect", "segmnet"], "there is no head 'segmnet'; did you mean 'segment'"),
        ([], "needs a head; give detect or segment"),
        ("segment", "must be a list"),
    ],
)
def test_impossible_heads_are_refused(heads, message):
    with pytest.raises(EffkerasError, match=message):
        with_heads(tiny_detector(), heads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment": SegmentSpec()}, r"the table \[segment\] needs \"segment\" among the heads"),
        ({"heads": ("segment", "segment")}, "names one twice"),
        ({"heads": ("segment",), "segment": SegmentSpec(classes=1)}, "mask classes must be 2 to 255, not 1"),
        ({"heads": ("segment",), "classes": 300, "labels": (), "category_ids": ()}, "2 to 255, not 301"),
        (
            {"heads": ("segment",), "segment": SegmentSpec(3, ("a", "b"))},
            "2 segment labels for 3 mask classes",
        ),
    ],
)
def test_definitions_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(EffkerasError, match=message):
        tiny_detector().replace(**changes)


def test_a_classifier_has_no_heads():
    with pytest.raises(EffkerasError, match="only a detector has heads to choose"):
        effkeras.build("efficientnet-digits", heads=["segment"])


def test_a_trained_detector_starts_a_model_that_also_segments(tmp_path, caplog):
    """All its weights are taken over; the head for masks starts anew, and it is said."""
    trained = build_spec(tiny_detector())
    save(trained, tmp_path / "trained.keras")
    model = build_spec(with_heads(tiny_detector(), BOTH))
    report = load_weights(model, tmp_path / "trained.keras")
    assert {name.split("/")[0] for name in report.skipped} == {
        "segment_p4_conv", "segment_p4_bn", "segment_p3_conv", "segment_p3_bn", "segment_predict"
    }  # fmt: skip
    assert "has no head segment: its 12 weights keep their random start" in caplog.text
    for layer in trained.layers:
        for ours, theirs in zip(model.get_layer(layer.name).weights, layer.weights, strict=True):
            assert (ours.numpy() == theirs.numpy()).all()


def test_half_a_head_is_no_head_to_learn_anew(tmp_path):
    """Missing weights are an error when others of the head are there."""
    model = build_spec(with_heads(tiny_detector(), BOTH))
    cut = keras.Model(model.input, {**model.output, "mask_logits": model.get_layer("segment_p3_act").output})
    save(cut, tmp_path / "cut.keras")
    with pytest.raises(EffkerasError, match="2 missing: segment_predict/kernel, segment_predict/bias"):
        load_weights(model, tmp_path / "cut.keras")


def test_the_authors_names_cover_the_head():
    """Level 6 first, as their code makes the layers."""
    names = official_names(with_heads(effkeras.spec("d0"), BOTH))
    assert names["segment_p6_conv", "kernel"] == "segmentation_head/conv2d_transpose/kernel"
    assert names["segment_p3_conv", "kernel"] == "segmentation_head/conv2d_transpose_3/kernel"
    assert names["segment_p3_bn", "gamma"] == "segmentation_head/bn_3/gamma"
    assert names["segment_predict", "bias"] == "segmentation_head/conv2d_transpose_4/bias"
    model = build_spec(with_heads(tiny_detector(), BOTH))
    own = {(layer.name, weight.name) for layer in model.layers for weight in layer.weights}
    assert own <= official_names(spec_of(model)).keys()
