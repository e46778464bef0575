"""`effkeras search table`: a table that no network of its space misses a block of."""

from __future__ import annotations

import pytest
from support.space_files import BASE, space_from
from support.tiny import digits_folder

from effkeras import cli
from effkeras.search.evaluation.block_tables import predicted_ms
from effkeras.search.genomes import all_genomes
from effkeras.support.measurements import read_blocks

SPACE = (
    'kind = "blocks"\nhead = [8, 16]\n'
    + BASE
    + """
[[stage]]
kernel = [3, 5]
[[stage]]
op = ["mbconv", "skip"]
[[stage]]
squeeze = [0, 0.25]
"""
)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return digits_folder(tmp_path_factory.mktemp("data") / "classes", classify=True)


def table(space, data, out, *words):
    return cli.main(["search", "table", str(space), "--data", str(data), "--out", str(out), *words])


@pytest.mark.slow
def test_a_table_has_all_blocks_of_its_space_and_is_checked(classes, tmp_path, capsys):
    space = space_from(tmp_path, SPACE)
    out = tmp_path / "blocks.toml"
    assert table(tmp_path / "own.toml", classes, out, "--runs", "3", "--check", "3") == 0
    made = read_blocks(out)
    sums = [predicted_ms(space.spec(genome), made) for genome in all_genomes(space)]
    assert min(sums) > 0
    assert (made.model, made.runs) == ("own", 3)
    shown = capsys.readouterr()
    said = " ".join(shown.out.split())
    assert f"blocks {len(made.blocks)}, float32, 1 thread, 3 runs" in said
    assert "every network of the space" in said
    assert "compared with the measured latency of 3 whole networks" in said
    assert "Kendall's tau" in said
    assert f"--cost table:{out}" in shown.err


@pytest.mark.slow
def test_a_table_of_some_networks_says_so(classes, tmp_path, capsys):
    space_from(tmp_path, SPACE)
    out = tmp_path / "blocks.toml"
    words = ("--networks", "1", "--check", "0", "--runs", "1", "--threads", "2", "--precision", "int8")
    assert table(tmp_path / "own.toml", classes, out, *words) == 0
    made = read_blocks(out)
    assert len(made.blocks) <= 5
    assert {one.threads for one in made.latencies} == {2}
    assert {one.dtype for one in made.blocks} == {"int8"}
    shown = capsys.readouterr()
    assert "the drawn networks only" in shown.out
    assert "[artifact] threads = 2" in shown.err
    assert "whole networks" not in shown.out


@pytest.mark.parametrize("name", ["nasnet-cells", "efficientdet-lite"])
def test_a_space_without_blocks_is_refused(classes, tmp_path, capsys, name):
    assert table(name, classes, tmp_path / "blocks.toml") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {name} has no classifiers of MBConv blocks")
    assert "latency_ms" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--check", "1"], "2 networks or more"),
        (["--check", "-1"], "below 0"),
        (["--runs", "0"], "not above 0"),
    ],
)
def test_bad_options_are_one_line(classes, tmp_path, capsys, words, said):
    assert table("digits-blocks", classes, tmp_path / "blocks.toml", *words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_file_that_is_no_toml_is_refused(classes, tmp_path, capsys):
    assert table("digits-blocks", classes, tmp_path / "blocks.json") == 2
    assert "must end in .toml" in capsys.readouterr().err
