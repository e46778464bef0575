"""Spaces of blocks: equal networks have equal genomes, and published networks are members."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from support.space_files import BASE, by_network, operations, shipped, space_from

import effkeras
from effkeras.graph.counting import count
from effkeras.graph.networks.blocks import blocks_of
from effkeras.search import genomes
from effkeras.search.evaluation.block_tables import places_of
from effkeras.search.spaces.stages import built

# Each has another way of writing one network down in several ways.
SPACES = {
    "idle genes": """
        [[stage]]
        op = ["separable", "conv"]
        expand = [2, 3]
        shortcut = [true, false]
        [[stage]]
        op = ["skip", "mbconv", "separable"]
        expand = [1, 2]
        squeeze = [0, 0.25]
        kernel = [3, 5]
        [[stage]]
        shortcut = [true, false]
        repeats = [1, 2]
    """,
    "blocks that either of two stages may have": """
        [every]
        repeats = [0, 1, 2]
        op = ["separable", "skip"]
        kernel = [3, 5]
        [[stage]]
        [[stage]]
        [[stage]]
        repeats = 1
        op = "fused"
    """,
    "factors and figures that round to the same": """
        width = [0.5, 1, 1.05]
        stem = [8, 16]
        activation = ["relu", "relu6"]
        size = [32, 40]
        [[stage]]
        outputs = [8, 12, 16]
        [[stage]]
        activation = ["relu", "swish"]
        outputs = [8, 16]
        [[stage]]
        squeeze = [0.25, 0.26]
    """,
    "strides, and kernels that only some ops take": """
        [every]
        expand = 2
        [[stage]]
        op = ["separable", "skip"]
        stride = [1, 2]
        kernel = [3, "3.5"]
        [[stage]]
        op = ["mbconv", "fused"]
        kernel = [3, "3.5"]
        [[stage]]
        kernel = [5, "3.5.7"]
    """,
}


def with_base(text):
    """The text of a space; what concerns the whole network stands before the tables."""
    return 'kind = "blocks"\n' + text + BASE


@pytest.fixture(params=SPACES)
def space(request, tmp_path):
    return space_from(tmp_path, with_base(SPACES[request.param]))


def test_equal_networks_have_the_least_genome_of_all_that_describe_them(space):
    groups = by_network(space)
    for same in groups.values():
        for genome in same:
            assert space.canonical(genome) == same[0]
            assert space.copies(genome) == len(same)
    assert genomes.count(space) == genomes.Count(len(groups), exact=True)
    assert len(groups) < sum(map(len, groups.values()))


def test_the_estimate_is_near_the_count(space, monkeypatch):
    exact = genomes.count(space).networks
    monkeypatch.setattr(genomes, "_COUNTED", 0)
    assert genomes.count(space, draws=3000).networks == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize("name", ["mnasnet-a1", "mnasnet-b1"])
def test_published_networks_are_members(name):
    space, published = shipped("mnasnet"), effkeras.spec(name)
    member = space.spec(space.encode(published))
    assert count(member) == count(published)
    assert operations(member) == operations(published)


def test_efficientnet_b0_has_blocks_of_mnasnet_s_space():
    space = shipped("mnasnet")
    network = dataclasses.replace(space.base.network, blocks=effkeras.spec("efficientnet-b0").network.blocks)
    found = space.spec(space.encode(space.base.replace(network=network)))
    assert found.network.blocks == network.blocks


@pytest.mark.parametrize("name", ["mnasnet-small", "efficientnet-b0", "mnasnet-a1-0.5", "nasnet-mobile"])
def test_other_networks_are_no_members(name):
    assert shipped("mnasnet").encode(effkeras.spec(name)) is None


def test_a_genome_is_found_again():
    space, random = shipped("digits-blocks"), np.random.default_rng(3)
    for _ in range(50):
        genome = genomes.sample(space, random)
        assert space.encode(space.spec(genome)) == genome


def test_a_base_is_taken_as_it_is_built(tmp_path):
    text = 'kind = "blocks"\nbase = "mnasnet-a1-0.5"\nwidth = [1, 2]\n'
    space = space_from(tmp_path, text)
    assert operations(space.spec((0,))) == operations(effkeras.spec("mnasnet-a1-0.5"))
    assert space.spec((1,)).network.stem == 32
    assert space.spec((1,)).network.head == 1280  # the family's width leaves it alone


def test_a_width_follows_the_family_s_rules(tmp_path):
    text = 'kind = "blocks"\nbase = "efficientnet-b0"\nwidth = [1, 1.1]\nsize = [224, 260]\n'
    space = space_from(tmp_path, text)
    wide = effkeras.spec("efficientnet-b0")
    wide = wide.replace(network=dataclasses.replace(wide.network, width=1.1))
    assert operations(space.spec((0, 1))) == operations(wide)


def test_a_genome_that_is_no_network_says_why(tmp_path):
    space = space_from(tmp_path, with_base('[every]\nop = ["skip", "separable"]\nstride = [1, 2]\n'))
    assert space.problem((0,) * 6) == "every stage is skipped"
    with pytest.raises(effkeras.EffkerasError, match="own: the genome 0-0-0-0-0-0 describes no network"):
        space.spec((0,) * 6)


def test_a_candidate_in_lines(tmp_path):
    space = space_from(tmp_path, with_base(SPACES["factors and figures that round to the same"]))
    genome = (1, 2, 0, 1, 0, 0, 0, 0)
    assert space.describe(genome)[0] == "size 40, width 1, stem 8, activation relu6"
    assert space.describe(genome)[1:] == list(space.spec(genome).network.blocks)


# Keys of a stage at a time, and what is said of them.
BAD_STAGES = {
    "kernel = 4": "stage 1: kernel must be an odd whole number",
    "kernel = []": "stage 1: kernel is an empty list; give at least one choice",
    "kernel = [3, 3]": "stage 1: kernel lists 3 twice",
    "kernal = 3": "stage 1: unknown key 'kernal'; did you mean 'kernel'?",
    "outputs = [8, 0]": "stage 1: outputs must be a whole number above 0, or a list of such choices, not 0",
    "outputs = [8, -8]": "stage 1: outputs must be a whole number above 0",
    "outputs = [8, 12.5]": "stage 1: outputs must be a whole number above 0",
    "expand = nan": "stage 1: expand must be a number above 0",
    "repeats = 1001": "stage 1: repeats must be a whole number from 0 to 1000",
    "squeeze = 1.5": "stage 1: squeeze must be a number from 0 to 1",
    "stride = 3": "stage 1: stride must be 1 or 2",
    "shortcut = 1": "stage 1: shortcut must be true or false",
    'op = "mb"': "stage 1: op must be one of mbconv, separable, fused, conv, skip",
    'op = "mbconv"': "stage 1: the op mbconv needs the key 'expand'",
    "stride = 2\nrepeats = [0, 1]": "stage 1: a stage of stride 2 cannot be skipped",
    "kernel = [[3]]": "stage 1: kernel must be an odd whole number",
    'activation = "gelu"': "stage 1: activation must be one of swish, relu6, relu, hard_swish",
}


@pytest.mark.parametrize("keys", BAD_STAGES)
def test_a_bad_stage_is_refused(tmp_path, keys):
    with pytest.raises(effkeras.EffkerasError) as error:
        space_from(tmp_path, with_base(f"[[stage]]\n{keys}\n[[stage]]\n[[stage]]\nexpand = [2, 4]\n"))
    assert f"own.toml: {BAD_STAGES[keys]}" in str(error.value)
    assert "\n" not in str(error.value)


BAD_NETWORKS = {
    "size = 16\n[every]\nkernel = [3, 5]": "input size (16, 16) is below 32 pixels",
    "size = [32, 20000]": "size = 20000: own.*above 16384 pixels",
    "width = [0, 1]": "width must be a number above 0",
    'width = "1"': "width must be a number above 0",
    "colour = 1": "unknown key 'colour'",
    "[every]\nkernle = 3": r"\[every\]: unknown key 'kernle'; did you mean 'kernel'",
    "every = 3": r"every must be a table, \[every\], not 3",
    "stage = 3": "stage must be a list of tables",
    "[[stage]]\n[[stage]]": "stage: 2 tables for the 3 stages of own",
    "": "the space has no genes: give at least one key a list of choices",
    '[every]\nop = ["fused", "conv"]\nexpand = 2\nkernel = ["3.5", "3.7"]': "has no valid genome.*one kernel",
    '[every]\nop = "skip"\nstride = [1, 2]': "has no valid genome: .*every stage is skipped",
}


@pytest.mark.parametrize("keys", BAD_NETWORKS)
def test_a_bad_space_is_refused(tmp_path, keys):
    with pytest.raises(
        effkeras.EffkerasError, match=r"own\.toml.*" + BAD_NETWORKS[keys].replace("(16, 16)", ".*")
    ):
        space_from(tmp_path, with_base(keys))


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (
            'base = "mnasnet-a2"',
            "base 'mnasnet-a2': there is no model 'mnasnet-a2'; did you mean 'mnasnet-a1'",
        ),
        ('base = "nasnet-cifar"', "nasnet-cifar is no network of blocks"),
        ("base = 3", "base must be a model's name or a table, not 3"),
        ("", "the key 'base' is missing"),
        (
            "[base]\nbase = 'efficientnet-b0'\nchannels = { stem_conv = 24 }",
            r"fixes the widths .*\[channels\]",
        ),
        ("[base]\nbase = 'efficientnet-b0'\ncolour = 1", "unknown key 'colour'"),
        ("[base]\nbase = 'efficientnet-b10'", "there is no model 'efficientnet-b10'"),
    ],
)
def test_a_bad_base_is_refused(tmp_path, base, reason):
    with pytest.raises(effkeras.EffkerasError, match=reason):
        space_from(tmp_path, f'kind = "blocks"\nwidth = [1, 2]\n{base}\n')


def test_too_many_choices_of_one_stage_are_refused(tmp_path):
    keys = "\n".join(
        f"{key} = [{', '.join(map(str, range(1, 23)))}]" for key in ("outputs", "repeats", "expand")
    )
    with pytest.raises(
        effkeras.EffkerasError, match="10,648 combinations of its choices are more than 10,000"
    ):
        space_from(tmp_path, with_base(f"[[stage]]\n{keys}\n[[stage]]\n[[stage]]\n"))


def test_the_backbone_of_a_detector_can_be_searched(tmp_path):
    space = space_from(tmp_path, 'kind = "blocks"\nbase = "efficientdet-digits"\n[every]\nkernel = [3, 5]\n')
    spec = space.spec((1,) * 6)
    assert {text.split("_")[1] for text in spec.network.blocks} == {"k5"}
    assert (spec.fpn, spec.is_detector, space.encode(spec)) == (space.base.fpn, True, (1,) * 6)
    (tmp_path / "model.toml").write_text(spec.to_toml())
    assert effkeras.spec(tmp_path / "model.toml") == spec
    assert count(spec).macs > count(space.spec((0,) * 6)).macs


def pieces_of(space, chosen):
    return {place.piece for genome in chosen for place in places_of(space.spec(genome))}


def test_a_few_networks_cover_all_blocks(space):
    covering = list(space.covering())
    assert not any(map(space.problem, covering))
    assert pieces_of(space, covering) == pieces_of(space, genomes.all_genomes(space))


def test_blocks_have_the_same_string_when_they_are_the_same(space):
    """And an oracle knows which are."""
    words, records = set(), set()
    for genome in genomes.all_genomes(space):
        network = space.spec(genome).network
        for block, record in zip(blocks_of(network), built(network), strict=True):
            records.add(record)
            words.add((record, network.block_string(block)))
    assert len({word for _, word in words}) == len(records) == len(words)


def test_a_large_space_is_covered_by_far_fewer_networks_than_it_has():
    space, random = shipped("mnasnet"), np.random.default_rng(0)
    covering = list(space.covering())
    assert len(covering) < 3000
    found = pieces_of(space, covering)
    assert pieces_of(space, (genomes.sample(space, random) for _ in range(100))) <= found


def test_candidates_of_a_long_name_can_still_name_a_file(tmp_path):
    space = space_from(tmp_path, with_base(SPACES["idle genes"]), "s" * 180)
    first, second = itertools.islice(genomes.all_genomes(space), 2)
    names = {space.spec(genome).name for genome in (first, second)}
    assert len(names) == 2
    assert all(len(name) <= 200 and name.startswith(space.name) for name in names)
