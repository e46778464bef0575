"""The pyramid's wiring is the authors' (google/automl efficientdet, `bifpn_config`)."""

from __future__ import annotations

import dataclasses

import pytest

import effkeras
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.bifpn import cell_nodes
from effkeras.graph.counting import CountingNet, Shape, count
from effkeras.graph.heads import detector
from effkeras.graph.vocabulary import Pool

NODES = {
    # D0 to D7 and Lite
    (3, 7): [
        (6, (3, 4)),
        (5, (2, 5)),
        (4, (1, 6)),
        (3, (0, 7)),
        (4, (1, 7, 8)),
        (5, (2, 6, 9)),
        (6, (3, 5, 10)),
        (7, (4, 11)),
    ],
    # D7x
    (3, 8): [
        (7, (4, 5)),
        (6, (3, 6)),
        (5, (2, 7)),
        (4, (1, 8)),
        (3, (0, 9)),
        (4, (1, 9, 10)),
        (5, (2, 8, 11)),
        (6, (3, 7, 12)),
        (7, (4, 6, 13)),
        (8, (5, 14)),
    ],
    # small detectors: by the same rule
    (3, 5): [(4, (1, 2)), (3, (0, 3)), (4, (1, 3, 4)), (5, (2, 5))],
}


@pytest.mark.parametrize("levels", NODES)
def test_nodes_are_the_authors(levels):
    nodes = cell_nodes(*levels)
    assert [(node.level, node.inputs) for node in nodes] == NODES[levels]
    assert [node.index for node in nodes] == list(range(len(nodes)))


class Recorder(CountingNet):
    """Keeps the names of the resizing operations and their sizes."""

    def __init__(self):
        super().__init__()
        self.seen: dict[str, tuple[int, int]] = {}

    def pool(self, x: Shape, name: str, pool: Pool) -> Shape:
        y = super().pool(x, name, pool)
        self.seen[name] = (y.height, y.width)
        return y

    def upsample(self, x: Shape, name: str, size: tuple[int, int]) -> Shape:
        self.seen[name] = size
        assert size[0] in (2 * x.height, 2 * x.height - 1)
        assert size[1] in (2 * x.width, 2 * x.width - 1)
        return super().upsample(x, name, size)


def recorded(spec: ModelSpec) -> Recorder:
    net = Recorder()
    detector(net, Shape(*spec.input.size, 3), spec)
    return net


def test_maps_above_the_backbone_are_pooled_once_each():
    seen = recorded(with_size(effkeras.spec("d0"), (512, 512))).seen
    assert {name: size for name, size in seen.items() if name.startswith("p")} == {
        "p6_pool": (8, 8),
        "p7_pool": (4, 4),
    }


def test_only_p6_changes_the_width():
    layers = recorded(effkeras.spec("d0")).layers
    assert "p6_conv" in layers
    assert "p7_conv" not in layers


def test_the_first_cell_alone_projects_and_each_node_by_itself():
    layers = recorded(effkeras.spec("d0")).layers
    projections = [name for name in layers if name.startswith("fpn") and "_in" in name and "_conv" in name]
    assert projections == [
        "fpn0_node1_in0_conv",
        "fpn0_node2_in0_conv",
        "fpn0_node3_in0_conv",
        "fpn0_node4_in0_conv",
        "fpn0_node5_in0_conv",
    ]


@pytest.mark.parametrize("size", [(320, 320), (448, 448), (100, 132), (33, 511), (512, 32)])
def test_every_size_can_be_resampled(size):
    net = recorded(with_size(effkeras.spec("d0"), size))
    ups = [name for name in net.seen if name.endswith("_up")]
    assert len(ups) <= 4 * 3


def test_sums_have_no_weights():
    spec = effkeras.spec("d0")
    summed = spec.replace(fpn=dataclasses.replace(spec.fpn, fusion="sum"))
    weights = sum(len(node.inputs) for node in cell_nodes(3, 7)) * 3
    assert count(spec).trainable - count(summed).trainable == weights
