"""`[channels]` set the width of any layer that makes channels, and nothing else about the graph."""

from __future__ import annotations

import dataclasses

import pytest
from support.tiny import tiny_cells
from support.tiny_models import tiny_spec

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_heads
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count, layer_channels, weight_shapes
from effkeras.graph.keras_counting import count_layers
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError

# Where a narrowed layer has no other to agree with.
FREE = {
    "efficientnet-b0": {"stem_conv": 13, "block1_expand_conv": 9, "block1_se_reduce": 2, "head_conv": 70},
    "efficientnetv2-b0": {"block1_fused_conv": 14, "block3_expand_conv": 9, "head_conv": 70},
    "mobilenet-v3-small": {"block1_expand_conv": 9, "hidden_conv": 33},
    "squeezenet-1.1": {"stem_conv": 10, "fire0_squeeze_conv": 5, "fire0_expand1_conv": 7},
    "efficientdet-lite0": {"stem_conv": 7, "class0_conv": 11, "box0_conv": 9},
}


def tiny(name: str) -> ModelSpec:
    spec = effkeras.spec(name)
    if spec.is_detector:
        return tiny_spec(name)
    scale = {"width": 0.35, "depth": 0.3} if hasattr(spec.network, "width") else {}
    network = dataclasses.replace(spec.network, **scale)
    size = dataclasses.replace(spec.input, size=(64, 64))
    return spec.replace(network=network, input=size, classes=3, labels=(), weights={})


def whole_fpn(spec: ModelSpec, width: int) -> dict[str, int]:
    """The widths of a pyramid that is `width` wide, with the heads' first layers as they are."""
    names = [name for name in layer_channels(spec) if name.startswith(("fpn", "p6"))]
    return {name: width for name in names if name.endswith("_conv")}


def check_built(spec: ModelSpec) -> None:
    model, counts = build_spec(spec), count(spec)
    for name, width in spec.channels.items():
        assert model.get_layer(name).output.shape[-1] == width
    assert spec_of(model) == spec
    built = count_layers(model)
    assert (built.total, built.macs) == (counts.total, counts.macs)


@pytest.mark.parametrize("name", FREE)
def test_a_named_layer_is_as_wide_as_it_says(name):
    check_built(tiny(name).replace(channels=FREE[name]))


def test_every_layer_of_a_pyramid_can_be_narrowed():
    spec = tiny("efficientdet-d0")
    check_built(spec.replace(channels=whole_fpn(spec, 12)))


def test_layers_of_cells_can_be_narrowed():
    spec = tiny_cells("nasnet-mobile", size=(64, 64))
    names = [name for name in layer_channels(spec) if name.startswith("cell0_h") and name.endswith("conv")]
    alone = {name: 6 for name in layer_channels(spec) if name.endswith("sep0_conv")}
    assert names
    assert alone
    check_built(spec.replace(channels=alone))


def test_masks_may_come_from_narrowed_maps():
    spec = with_heads(tiny("efficientdet-d0"), ("segment",))
    own = {name: 10 for name in layer_channels(spec) if name.startswith("segment_p") and "_conv" in name}
    assert own
    check_built(spec.replace(channels={**whole_fpn(spec, 12), **own}))


@pytest.mark.slow
def test_a_network_of_keras_can_be_narrowed():
    spec = effkeras.spec("resnet50").replace(classes=3)
    spec = spec.replace(input=dataclasses.replace(spec.input, size=(64, 64)))
    narrow = spec.replace(channels={"conv2_block1_1_conv": 24, "conv5_block2_2_conv": 100})
    before, after = count(spec), count(narrow)
    model = build_spec(narrow)
    assert model.get_layer("conv2_block1_2_conv").kernel.shape[2] == 24
    assert (count_layers(model).macs, count_layers(model).total) == (after.macs, after.total)
    assert after.macs < before.macs


def test_a_width_that_equals_another_adds_no_skip_and_spares_no_projection():
    spec = tiny("efficientdet-d0")
    taps = {"block3_project_conv", "block4_project_conv", "block2_project_conv"} & set(layer_channels(spec))
    equal = {name: detector_width(spec) for name in taps if has_no_skip(spec, name)}
    assert equal
    narrow = spec.replace(channels=equal)
    assert layer_channels(narrow).keys() == layer_channels(spec).keys()
    check_built(narrow)


def detector_width(spec: ModelSpec) -> int:
    assert spec.fpn is not None
    return spec.fpn.channels


def has_no_skip(spec: ModelSpec, name: str) -> bool:
    """Whether a layer may have any width: then counting finds nothing wrong."""
    try:
        count(spec.replace(channels={name: detector_width(spec)}))
    except EffkerasError:
        return False
    return True


def test_a_projection_stays_away_when_widths_come_apart():
    spec = tiny("efficientdet-d0")
    lowest = weight_shapes(spec)["fpn0_node3_in0_conv", "kernel"][2]
    assert spec.fpn is not None
    same = spec.replace(fpn=dataclasses.replace(spec.fpn, channels=lowest))
    assert "fpn0_node3_in0_conv" not in layer_channels(same)
    wider = same.replace(channels=whole_fpn(same, lowest + 4))
    with pytest.raises(EffkerasError, match=f"cannot (add|fuse) maps of {lowest} and {lowest + 4} channels"):
        build_spec(wider)


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("efficientdet-d0", {"fpn0_node0_conv": 8}, "cannot fuse maps of 8 and 24 channels"),
        ("efficientdet-d0", {"class_predict": 8}, r"\[channels\] cannot change 'class_logits'"),
        ("efficientdet-d0", {"class0_p3_bn": 8}, "cannot change 'class0_p3_bn'; its width follows"),
        ("efficientdet-d0", {"clas0_conv": 8}, r"names 'clas0_conv'; did you mean 'class0_conv'\?"),
        ("efficientnet-b0", {"block1_se_expand": 5}, "block1_se_scale cannot multiply maps of 5 and"),
        ("efficientnet-b0", {"logits": 5}, "cannot change 'logits'"),
    ],
)
def test_contradictions_are_one_line(name, channels, message):
    spec = tiny(name).replace(channels=channels)
    for use in (build_spec, count):
        with pytest.raises(EffkerasError, match=message):
            use(spec)


def test_a_shared_head_needs_one_width_on_all_levels():
    spec = tiny("efficientdet-d0")
    narrow = {name: 12 for name in whole_fpn(spec, 12) if "node3" not in name}
    with pytest.raises(EffkerasError, match="channels; give the layers before it the same width"):
        count(spec.replace(channels=narrow))


def test_masks_cannot_be_narrowed():
    spec = with_heads(tiny("efficientdet-d0"), ("segment",))
    with pytest.raises(EffkerasError, match="cannot change 'mask_logits'"):
        build_spec(spec.replace(channels={"segment_predict": 2}))
