"""`effkeras scale`: its tables fit a terminal, show real costs, and what it writes is a model."""

from __future__ import annotations

import re

import pytest

import effkeras
from effkeras import cli
from effkeras.definitions.scaling import with_phi
from effkeras.graph.counting import count


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def run(*words: object) -> int:
    return cli.main(["scale", *map(str, words)])


def rows(text: str) -> list[list[str]]:
    """The cells of the lines that start with a figure."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines() if re.match(r" ?-?\d", line)]


@pytest.mark.parametrize("words", [["b0"], ["d0"], ["b0", "--grid"], ["b0", "--phi", "-1", "0.5"]])
def test_tables_fit_80_columns(words, capsys):
    assert run(*words) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["b0", "d0", "mobilenet-v2"])
def test_each_phi_costs_what_its_model_does(name, capsys):
    assert run(name) == 0
    lines = rows(capsys.readouterr().out)
    assert [line[0] for line in lines] == list("01234567")
    base = count(effkeras.spec(name))
    assert lines[0][-1] == "1.00"
    for line in lines:
        counts = count(with_phi(effkeras.spec(name), int(line[0])))
        assert float(line[-3].removesuffix(" M")) == pytest.approx(counts.trainable / 1e6, abs=0.006)
        assert float(line[-2].removesuffix(" G")) == pytest.approx(counts.macs / 1e9, rel=2e-3)
        assert float(line[-1]) == pytest.approx(counts.macs / base.macs, abs=0.006)


def test_a_detector_shows_its_pyramid(capsys):
    assert run("d0", "--phi", "1") == 0
    assert rows(capsys.readouterr().out)[0][:6] == ["1", "1.20", "1.10", "640", "88 x 4", "3"]


def test_the_grid_is_sorted_by_cost_and_marks_the_papers_triple(capsys):
    assert run("--grid") == 0  # of B0, which the paper scales
    lines = rows(capsys.readouterr().out)
    assert len(lines) == 75
    costs = [float(line[-1]) for line in lines]
    assert costs == sorted(costs)
    assert [line[:3] for line in lines if "*" in line[0]] == [["1.20*", "1.10", "1.15"]]


def test_the_grid_follows_the_tolerance(capsys):
    assert run("b0", "--grid", "--tolerance", "0.02") == 0
    assert len(rows(capsys.readouterr().out)) == 19


def test_coefficients_and_multiple_are_ones_own(capsys):
    words = ["--phi", "2", "--alpha", "1.3", "--beta", "1", "--gamma", "1.1", "--size-multiple", "32"]
    assert run("b0", *words) == 0
    assert rows(capsys.readouterr().out)[0][:4] == ["2", "1.69", "1.00", "256"]  # 224 * 1.21 = 271


def test_what_is_written_is_the_model(tmp_path, capsys):
    out = tmp_path / "b0-large.toml"
    assert run("b0", "--phi", "1.5", "--out", out) == 0
    assert effkeras.spec(out) == with_phi(effkeras.spec("b0"), 1.5)


BAD = {
    "phi is no number": ["b0", "--phi", "one"],
    "phi is NaN": ["b0", "--phi", "nan"],
    "phi is infinite": ["b0", "--phi", "inf"],
    "phi is absurd": ["b0", "--phi", "1000"],
    "too small an image": ["b0", "--phi", "-20"],
    "alpha below 1": ["b0", "--alpha", "0.5"],
    "no multiple": ["b0", "--size-multiple", "0"],
    "no factors": ["squeezenet-1.1"],
    "a pyramid without cells": ["d0", "--phi", "-3"],
    "no triples": ["b0", "--grid", "--tolerance", "0"],
    "tolerance is NaN": ["b0", "--grid", "--tolerance", "nan"],
    "grid with phi": ["b0", "--grid", "--phi", "1"],
    "grid of a detector": ["d0", "--grid"],
    "gamma of a detector": ["d0", "--gamma", "1.1"],
    "two models in one file": ["b0", "--phi", "1", "2", "--out", "out.toml"],
    "a file of another kind": ["b0", "--phi", "1", "--out", "out.json"],
    "no such model": ["b99"],
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*BAD[case]) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(r"error: [^\n]+\n", captured.err)
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("b0", "--phi", "1", "--out", tmp_path / "file" / "x.toml") == 2
    assert re.fullmatch(r"error: [^\n]+\n", capsys.readouterr().err)
