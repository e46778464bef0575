"""Spaces of detectors."""

from __future__ import annotations

import pytest
from support.space_files import by_network, shipped, space_from

import effkeras
from effkeras.search import genomes

SMALL = """
kind = "detector"
base = "efficientdet-lite0"
backbone = ["efficientnet-lite0", "mobilenet-v2-0.35"]
size = [64, 96]
[fpn]
channels = [16, 24]
fusion = ["fast", "sum"]
last_level = [5, 6]
[head]
repeats = [0, 1]
[anchors]
scale = 3.0
octaves = 2
"""


def test_no_two_genomes_are_the_same_detector(tmp_path):
    space = space_from(tmp_path, SMALL)
    groups = by_network(space)
    assert [len(same) for same in groups.values()] == [1] * 64
    assert genomes.count(space) == genomes.Count(64, exact=True)


def test_a_candidate_has_what_its_genome_says(tmp_path):
    space = space_from(tmp_path, SMALL)
    spec = space.spec((1, 1, 0, 1, 1, 0))
    assert spec.network == effkeras.spec("mobilenet-v2-0.35").network
    assert spec.input.size == (96, 96)
    assert spec.input.mean == effkeras.spec("mobilenet-v2-0.35").input.mean
    assert (spec.fpn.channels, spec.fpn.fusion, spec.fpn.levels) == (16, "sum", (3, 6))
    assert (spec.head.repeats, spec.anchors.scale, spec.anchors.octaves) == (0, 3.0, 2)
    assert (spec.fpn.cells, spec.fpn.activation) == (3, "relu6")  # the base's
    assert space.describe((1, 1, 0, 1, 1, 0))[0].startswith(
        "backbone mobilenet-v2-0.35, size 96, fpn.channels 16"
    )


@pytest.mark.parametrize("name", ["efficientdet-lite0", "efficientdet-lite1"])
def test_published_detectors_are_members(name):
    space, published = shipped("efficientdet-lite"), effkeras.spec(name)
    member = space.spec(space.encode(published))
    for key in ("network", "input", "fpn", "head", "anchors"):
        assert getattr(member, key) == getattr(published, key)


@pytest.mark.parametrize("name", ["efficientdet-d0", "efficientdet-lite4", "efficientnet-lite0"])
def test_others_are_not(name):
    assert shipped("efficientdet-lite").encode(effkeras.spec(name)) is None


BAD = {
    'backbone = ["efficientnet-lite0", "efficientnet-lite9"]': "backbone 'efficientnet-lite9': there is no",
    'backbone = ["b0", "efficientnet-b0"]': "backbone lists one network twice: 'b0' and 'efficientnet-b0'",
    "backbone = [0, 1]": "backbone must be a text",
    "[fpn]\nchannels = [64, 0]": r"\[fpn\]: channels must be a whole number above 0",
    "[fpn]\ncells = [3, 200]": "fpn.cells = 200: .*must be at most 100",
    '[fpn]\nfusion = ["fast", "slow"]': r"\[fpn\]: fusion must be one of fast, sum",
    "[fpn]\nlast_level = [4, 5]": r"\[fpn\]: last_level must be 5, 6, 7 or 8",
    "[fpn]\nlevels = [3, 7]": r"\[fpn\]: unknown key 'levels'; did you mean 'last_level'",
    "[head]\nrepeats = [-1, 3]": r"\[head\]: repeats must be a whole number, 0 or more",
    "[anchors]\nscale = [0, 3]": r"\[anchors\]: scale must be a number above 0",
    "fpn = 3": r"fpn must be a table, \[fpn\], not 3",
    "[bifpn]\ncells = 3": "unknown key 'bifpn'; did you mean 'fpn'",
}


@pytest.mark.parametrize("keys", BAD)
def test_a_bad_space_is_refused(tmp_path, keys):
    with pytest.raises(effkeras.EffkerasError, match=r"own\.toml: " + BAD[keys]):
        space_from(tmp_path, f'kind = "detector"\nbase = "efficientdet-lite0"\n{keys}\n')


def test_another_base_is_refused(tmp_path):
    with pytest.raises(effkeras.EffkerasError, match="efficientnet-b0 is no detector"):
        space_from(tmp_path, 'kind = "detector"\nbase = "efficientnet-b0"\n')
