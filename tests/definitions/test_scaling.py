"""Compound scaling gives the networks that the authors' code builds.

Source of the table: the official networks' layers (tensorflow/tpu efficientnet, google/automl).
"""

from __future__ import annotations

import dataclasses

import pytest

import effkeras
from effkeras.definitions.blocks import decode
from effkeras.definitions.scaling import round_filters, round_repeats
from effkeras.graph.networks.blocks import BlockNetwork, blocks_of, scale_head, scale_stages, scale_stem

# name: width, depth, stem, channels of the stages, repeats of the stages, head
NETWORKS = {
    "b0": (1.0, 1.0, 32, "16-24-40-80-112-192-320", "1-2-2-3-3-4-1", 1280),
    "b1": (1.0, 1.1, 32, "16-24-40-80-112-192-320", "2-3-3-4-4-5-2", 1280),
    "b2": (1.1, 1.2, 32, "16-24-48-88-120-208-352", "2-3-3-4-4-5-2", 1408),
    "b3": (1.2, 1.4, 40, "24-32-48-96-136-232-384", "2-3-3-5-5-6-2", 1536),
    "b4": (1.4, 1.8, 48, "24-32-56-112-160-272-448", "2-4-4-6-6-8-2", 1792),
    "b5": (1.6, 2.2, 48, "24-40-64-128-176-304-512", "3-5-5-7-7-9-3", 2048),
    "b6": (1.8, 2.6, 56, "32-40-72-144-200-344-576", "3-6-6-8-8-11-3", 2304),
    "b7": (2.0, 3.1, 64, "32-48-80-160-224-384-640", "4-7-7-10-10-13-4", 2560),
    "b8": (2.2, 3.6, 72, "32-56-88-176-248-424-704", "4-8-8-11-11-15-4", 2816),
    "l2": (4.3, 5.3, 136, "72-104-176-344-480-824-1376", "6-11-11-16-16-22-6", 5504),
    "lite0": (1.0, 1.0, 32, "16-24-40-80-112-192-320", "1-2-2-3-3-4-1", 1280),
    "lite1": (1.0, 1.1, 32, "16-24-40-80-112-192-320", "1-3-3-4-4-5-1", 1280),
    "lite2": (1.1, 1.2, 32, "16-24-48-88-120-208-352", "1-3-3-4-4-5-1", 1280),
    "lite3": (1.2, 1.4, 32, "24-32-48-96-136-232-384", "1-3-3-5-5-6-1", 1280),
    "lite4": (1.4, 1.8, 32, "24-32-56-112-160-272-448", "1-4-4-6-6-8-1", 1280),
}


def network_of(name: str) -> BlockNetwork:
    base = effkeras.spec("efficientnet-lite0" if name.startswith("lite") else "b0").network
    width, depth = NETWORKS[name][:2]
    return dataclasses.replace(base, width=width, depth=depth)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_scaled_network_is_the_authors(name):
    network = network_of(name)
    _, _, stem, channels, repeats, head = NETWORKS[name]
    stages = scale_stages(network, [decode(text) for text in network.blocks])
    assert "-".join(str(stage.outputs) for stage in stages) == channels
    assert "-".join(str(stage.repeats) for stage in stages) == repeats
    assert [stage.inputs for stage in stages[1:]] == [stage.outputs for stage in stages[:-1]]
    assert (scale_stem(network), scale_head(network)) == (stem, head)
    assert blocks_of(network)[0].inputs == stem


def test_scaling_keeps_kernel_stride_expansion_and_squeeze():
    network = network_of("b5")
    before = [decode(text) for text in network.blocks]
    for old, new in zip(before, scale_stages(network, before), strict=True):
        assert dataclasses.replace(new, inputs=old.inputs, outputs=old.outputs, repeats=old.repeats) == old


@pytest.mark.parametrize(("limit", "channels"), [(0.9, 24), (0.0, 16)])
def test_v2_lacks_the_90_percent_rule(limit, channels):
    network = dataclasses.replace(network_of("b3"), round_limit=limit)
    assert scale_stages(network, [decode(text) for text in network.blocks])[0].outputs == channels


@pytest.mark.parametrize(
    ("filters", "width", "rounded"),
    [(32, 1.0, 32), (20, 1.0, 20), (32, 0.1, 8), (32, 0.5, 16), (24, 1.1, 24), (40, 1.1, 48), (28, 0.99, 32)],
)
def test_filters_become_multiples_of_8_unless_unscaled(filters, width, rounded):
    assert round_filters(filters, width, 0.9) == rounded


@pytest.mark.parametrize(
    ("repeats", "depth", "scaled"), [(1, 1.0, 1), (3, 1.1, 4), (5, 2.2, 11), (4, 0.1, 1)]
)
def test_repeats_round_up(repeats, depth, scaled):
    assert round_repeats(repeats, depth) == scaled


def test_blocks_repeat_with_their_own_outputs_and_stride_1():
    blocks = blocks_of(network_of("b0"))
    assert [block.name for block in blocks] == [f"block{index}" for index in range(16)]
    assert [(block.inputs, block.outputs, block.stride) for block in blocks[1:5]] == [
        (16, 24, 2),
        (24, 24, 1),
        (24, 40, 2),
        (40, 40, 1),
    ]
    assert [block.expanded for block in blocks[:3]] == [32, 96, 144]
    assert [block.has_skip for block in blocks[:5]] == [False, False, True, False, True]


def test_squeeze_follows_the_input_of_a_block():
    assert [block.squeeze for block in blocks_of(network_of("b0"))[:4]] == [8, 4, 6, 6]
    assert {block.squeeze for block in blocks_of(network_of("lite0"))} == {0}


def test_stochastic_depth_grows_with_the_position():
    drops = [block.drop for block in blocks_of(network_of("b0"))]
    assert drops == pytest.approx([0.2 * index / 16 for index in range(16)])
