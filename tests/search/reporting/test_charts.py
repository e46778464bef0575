"""A network drawn: its parts hold all of its multiply-adds."""

from __future__ import annotations

import pytest

import effkeras
from effkeras.graph.counting import count
from effkeras.search.reporting.charts import draw_network, layers_of, parts_of


@pytest.mark.parametrize("name", ["efficientnet-b0", "nasnet-mobile", "efficientdet-lite0", "mixnet-s"])
def test_the_parts_are_the_whole(name):
    spec = effkeras.spec(name)
    macs = count(spec).macs
    assert sum(layer.macs for layer in layers_of(spec)) == macs
    assert sum(part.macs for part in parts_of(spec)) == macs


def test_a_part_is_a_block():
    stem, first, *_, head, logits = parts_of(effkeras.spec("efficientnet-lite0"))
    assert (stem.name, stem.what, stem.shape.channels) == ("stem", "conv 3x3", 32)
    assert (first.name, first.what, first.shape.channels) == ("block0", "depthwise 3x3", 16)
    assert (head.name, head.what, head.shape.channels) == ("head", "conv 1x1", 1280)
    assert (logits.name, logits.what, logits.shape.channels) == ("logits", "dense", 1000)


def test_a_drawing_is_a_png():
    assert draw_network(effkeras.spec("efficientnet-digits"), "Ours").startswith(b"\x89PNG")
