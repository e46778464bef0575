"""Cell networks: the published layout, counts at any size, drop-path, taps, and every operation."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import random_images, tiny_cells, tiny_detector

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.genotype import IDENTITY, OPERATIONS, decode
from effkeras.detection.boxes import anchor_boxes
from effkeras.graph.counting import count, weight_shapes
from effkeras.graph.keras_net import KerasNet
from effkeras.graph.networks.cells import cells_of
from effkeras.graph.vocabulary import Conv, Pool
from effkeras.layers import DropPath
from effkeras.layers.drop import set_progress
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import load, save

BASES = ("nasnet-mobile", "nasnet-cifar", "pnasnet-mobile")
ALL_OPERATIONS = (
    "dil3x3(h) + conv1x7_7x1(p)",
    "conv1x3_3x1(n0) + conv1x1(h)",
    "max5x5(h) + max7x7(p)",
    "conv3x3(p) + p",
    "sep7x7(n2) + dil3x3(n1)",
    "avg3x3(h) + sep3x3(h)",
    "sep5x5(n0) + max3x3(p)",
    "concat(h, p, n3, n4, n5, n6)",
)


def layers_of(spec: ModelSpec) -> dict[str, keras.Layer]:
    return {layer.name: layer for layer in build_spec(spec).layers}


# Cells, the filters of each stage, and how many cells lie between halvings of the resolution.
LAYOUTS = {
    "nasnet-mobile": (16, [11, 22, 44, 88, 176], "stem0 stem1 reduction0 reduction1"),
    "nasnet-large": (22, [42, 84, 168, 336, 672], "stem0 stem1 reduction0 reduction1"),
    "nasnet-cifar": (20, [32, 64, 128], "reduction0 reduction1"),
    "pnasnet-mobile": (11, [13, 27, 54, 108, 216], "stem0 stem1 cell3 cell6"),
    "pnasnet-large": (14, [54, 108, 216, 432, 864], "stem0 stem1 cell4 cell8"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_cells_are_laid_out_as_published(name):
    total, filters, strided = LAYOUTS[name]
    cells = cells_of(effkeras.spec(name).network)
    assert len(cells) == total
    assert list(dict.fromkeys(cell.filters for cell in cells)) == filters
    assert [cell.name for cell in cells if cell.stride == 2] == strided.split()


@pytest.mark.parametrize(("name", "skipped"), [("nasnet-mobile", 0), ("nasnet-large", 1)])
def test_large_skips_the_input_of_a_reduction(name, skipped):
    """Output 0 is the stem's convolution: cell i gives output i + 1 and takes output i as h."""
    cells = cells_of(effkeras.spec(name).network)
    reduction = next(index for index, cell in enumerate(cells) if cell.name == "reduction0")
    assert cells[0].previous is None
    assert cells[reduction].previous == reduction - 1
    assert cells[reduction + 1].previous == reduction - skipped
    assert cells[reduction + 2].previous == reduction + 1


@pytest.mark.parametrize(("name", "keep"), [("nasnet-large", 0.7), ("nasnet-cifar", 0.6)])
def test_drop_path_grows_with_the_depth(name, keep):
    keeps = [cell.keep for cell in cells_of(effkeras.spec(name).network)]
    assert keeps == pytest.approx([1 - (i + 1) / len(keeps) * (1 - keep) for i in range(len(keeps))])
    assert keeps[-1] == pytest.approx(keep)


@pytest.mark.parametrize("base", BASES)
def test_every_operation_but_the_identity_is_dropped(base):
    spec = tiny_cells(base, survival=0.5)
    drops = [layer for layer in layers_of(spec).values() if isinstance(layer, DropPath)]
    branches = [branch for cell in cells_of(spec.network) for node in cell.cell.nodes for branch in node]
    assert len(drops) == sum(branch.op != IDENTITY for branch in branches)
    (last,) = {layer.keep for layer in drops if layer.name.startswith("cell2_")}
    assert last == pytest.approx(0.5)


def test_paths_drop_in_training_only():
    model = build_spec(tiny_cells("pnasnet-mobile", survival=0.2, dropout=0.0), activation=None)
    pixels = np.repeat(random_images(1, 32), 16, axis=0)

    def rows(training: bool) -> int:
        return len(np.unique(np.round(np.asarray(model(pixels, training=training)), 3), axis=0))

    assert rows(training=False) == 1
    assert rows(training=True) > 8
    set_progress(model, 0.0)
    assert rows(training=True) == 1


@pytest.mark.parametrize("base", BASES)
def test_a_built_network_has_what_was_counted_and_runs(base):
    spec = tiny_cells(base, size=(45, 38))
    assert_counted(spec)


@pytest.mark.parametrize("reduction", [(), ALL_OPERATIONS])
def test_every_operation_is_built_as_counted(reduction):
    assert {branch.op for node in decode(ALL_OPERATIONS).nodes for branch in node} == set(OPERATIONS)
    assert_counted(tiny_cells(normal=ALL_OPERATIONS, reduction=reduction, size=(33, 50)))


def assert_counted(spec: ModelSpec) -> None:
    model = build_spec(spec)
    counts = count(spec)
    assert counts.trainable == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert counts.total == model.count_params()
    built = {(layer.name, weight.name): weight.shape for layer in model.layers for weight in layer.weights}
    assert built.keys() == weight_shapes(spec).keys()
    outputs = np.asarray(model(random_images(2, 64)[:, : spec.input.size[0], : spec.input.size[1]]))
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-4)


@given(st.tuples(st.integers(32, 90), st.integers(32, 90)), st.sampled_from(["valid", "same"]))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_maps_have_the_size_that_was_counted(size, padding):
    """Multiply-adds are a checksum of all maps' sizes."""
    cells = ("sep3x3(h) + max3x3(p)", "concat(p, n0)")
    spec = tiny_cells(size=size, normal=cells, reduction=cells, skip_reduction=True, padding=padding)
    model = build_spec(spec)
    walked = 0
    for layer in model.layers:
        for kernel in (weight for weight in layer.weights if "kernel" in weight.name):
            walked += int(np.prod(kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    assert count(spec).macs == walked


@pytest.mark.parametrize("size", [8, 9])
def test_a_dilated_stride_takes_the_even_pixels_of_the_dilated_convolution(size):
    x = keras.Input((size, size, 4))
    even = KerasNet().pool(x, "even", Pool(window=1, padding="valid"))
    ours = keras.Model(x, KerasNet().conv(even, "conv", Conv(3, kernel=3)))
    pixels = np.random.default_rng(0).normal(size=(2, size, size, 4)).astype("float32")
    whole = tf.nn.conv2d(pixels, ours.get_layer("conv").kernel, 1, "SAME", dilations=2)
    np.testing.assert_allclose(ours(pixels), whole[:, ::2, ::2], rtol=1e-4, atol=1e-5)


def test_dilation_and_strides_are_where_they_belong():
    layers = layers_of(tiny_cells(normal=ALL_OPERATIONS, reduction=ALL_OPERATIONS))
    wanted = {  # kernel, stride, dilation
        "cell0_node0_left_dilated_conv": ((3, 3), (1, 1), (2, 2)),
        "stem0_node0_left_dilated_conv": ((3, 3), (1, 1), (1, 1)),
        "stem0_node0_right_row_conv": ((1, 7), (1, 2), (1, 1)),
        "stem0_node0_right_column_conv": ((7, 1), (2, 1), (1, 1)),
        "stem0_node1_left_column_conv": ((3, 1), (1, 1), (1, 1)),  # of a node: halved already
        "stem0_node1_right_full_conv": ((1, 1), (2, 2), (1, 1)),
        "stem0_node3_right_conv": ((1, 1), (2, 2), (1, 1)),  # the identity, strided
        "stem0_node5_right_sep0_conv": ((3, 3), (2, 2), (1, 1)),
        "stem0_node5_right_sep1_conv": ((3, 3), (1, 1), (1, 1)),
        "cell0_node5_right_sep0_conv": ((3, 3), (1, 1), (1, 1)),
    }
    found = {name: layers[name] for name in wanted}
    assert {n: (x.kernel_size, x.strides, x.dilation_rate) for n, x in found.items()} == wanted
    assert {"stem0_node0_left_even", "stem0_out_h_even_conv", "stem0_out_p_odd_conv"} <= layers.keys()


def test_a_network_of_one_map_a_cell_is_built():
    """A plain chain: no cell takes p, so that nothing is made of it."""
    spec = tiny_cells(normal=("sep3x3(h) + h",), reduction=("sep3x3(h) + max3x3(h)",))
    assert_counted(spec)
    assert not [name for name in layers_of(spec) if "_p_" in name]


@pytest.mark.slow
def test_a_detector_may_have_cells_for_a_backbone():
    """Levels 3 to 5 are the maps before the reductions and the last one."""
    network = tiny_cells("nasnet-mobile").network
    for size, padding in ((64, "valid"), (75, "same")):
        spec = with_size(tiny_detector(), (size, 64))
        spec = spec.replace(network=dataclasses.replace(network, padding=padding))
        outputs = build_spec(spec)(random_images(1, 75)[:, :size, :64], training=False)
        assert outputs["box_deltas"].shape == (1, len(anchor_boxes(spec)), 4)


def test_a_network_for_32_pixels_has_no_map_for_a_detector():
    spec = tiny_detector().replace(network=tiny_cells("nasnet-cifar").network)
    with pytest.raises(EffkerasError, match="no map of stride 8"):
        build_spec(spec)


@pytest.mark.slow
def test_a_saved_network_is_the_same(tmp_path):
    model = build_spec(tiny_cells(survival=0.5))
    save(model, tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert spec_of(again) == tiny_cells(survival=0.5)
    pixels = random_images(2, 32)
    np.testing.assert_array_equal(again(pixels, training=False), model(pixels, training=False))


@pytest.mark.slow
def test_mobile_is_built_for_other_classes_and_sizes(tmp_path):
    model = effkeras.build("nasnet-mobile", classes=5, input_shape=(96, 96))
    save(model, tmp_path / "model.keras")
    pixels = random_images(1, 96)
    wanted = np.asarray(model(pixels, training=False))
    assert wanted.shape == (1, 5)
    np.testing.assert_array_equal(load(tmp_path / "model.keras")(pixels, training=False), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": ("sep3x3(h) + n1", "p + n0")}, "normal cell: node n0 'sep3x3(h) + n1' takes n1, which"),
        ({"reduction": ("sep9x9(h) + p",)}, "reduction cell: node n0 'sep9x9(h) + p': unknown operation"),
        ({"normal": ()}, "normal cell: a cell needs a node"),
        ({"repeats": 0}, "repeats, filters and stem must be above 0"),
        ({"filters": 7}, "7 filters are too few"),
        ({"stem": 0}, "repeats, filters and stem must be above 0"),
        ({"stem_cells": 3}, "stem_cells must be 0, 1 or 2"),
        ({"reduction": (), "skip_reduction": True}, "skip_reduction needs a reduction cell"),
        ({"dropout": 1.0}, "dropout must lie between 0 and 1"),
        ({"survival": 0.0}, "survival must lie above 0"),
        ({"auxiliary": -0.1}, "auxiliary must not be negative"),
    ],
)
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(EffkerasError) as caught:
        tiny_cells(**change)
    assert message in str(caught.value)
    assert str(caught.value).startswith("tiny-cells: ")


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "nasnet-mobile"\n[network]\nnormal = ["sep3x3(h) + sep3x3(n0)"]\n')
    with pytest.raises(
        EffkerasError, match=r"mine\.toml: normal cell: node n0 .* takes itself: that is a cyc"
    ):
        effkeras.spec(path)
