"""A search's report: pictures and a page from the rows that it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from effkeras import results
from effkeras.search.genomes import chosen, key, sample
from effkeras.search.reporting.importance import importances
from effkeras.search.reporting.report import main, write_report
from effkeras.search.reporting.trials import read_search
from effkeras.search.spaces.reading import read_space

SPACE = read_space("digits-blocks")


def row(trial, genome, **changes):
    wide = chosen(SPACE, genome)["stage2.outputs"] == 24
    return {
        "kind": "trial",
        "trial": trial,
        "told": trial,
        "state": "complete",
        "genome": key(genome),
        "choices": chosen(SPACE, genome),
        "space": SPACE.name,
        "strategy": "random",
        "seed": 0,
        "reward": 0.9 + 0.001 * (trial % 7) if wide else 0.5 + 0.001 * (trial % 5),
        "accuracy": 0.9 if wide else 0.5,
        "costs": {"macs": 1e6 + trial},
        "metrics": {},
        "seconds": 1.0,
        **changes,
    }


@pytest.fixture
def searched(tmp_path):
    """A search in which one gene alone decides."""
    random = np.random.default_rng(0)
    genomes = [sample(SPACE, random) for _ in range(60)]
    rows = [row(trial, genome) for trial, genome in enumerate(genomes)]
    rows.append(row(60, genomes[0], state="fail", reward=None, accuracy=None, reason="it was too large"))
    rows.append(row(61, genomes[1], same_as=1))
    rows.append(row(62, genomes[2], state="pruned"))
    (tmp_path / "mine").mkdir()
    results.append(tmp_path / "mine" / "results.jsonl", rows)
    (tmp_path / "mine" / "best.toml").write_text(SPACE.spec(genomes[0]).to_toml())
    return tmp_path / "mine"


def test_trials_are_counted_by_what_became_of_them(searched):
    search = read_search(searched)
    assert (len(search.points), search.pruned, search.failed) == (60, 1, {"it was too large": 1})
    assert search.best.accuracy == 0.9


def test_the_gene_that_decides_is_the_most_important(searched):
    shares = importances(read_search(searched))
    assert next(iter(shares)) == "stage2.outputs"
    assert sum(shares.values()) == pytest.approx(1)


def test_everything_is_drawn(searched):
    page = write_report([searched]).read_text()
    pictures = {file.stem for file in (searched / "report").glob("*.png")}
    assert pictures == {"progress", "pareto-macs", "importance", "winner"}
    assert all(f"![{name}]({name}.png)" in page for name in pictures)
    assert "| mine | random | 62 | 1 | 1 | 0.9060 | 0.9000 |" in page
    assert "1 failed: it was too large" in page


@pytest.mark.parametrize("what", ["empty", "other space", "none succeeded"])
def test_bad_input_is_one_line(what, searched, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    rows = {
        "empty": [],
        "other space": [row(0, (0,) * len(SPACE.genes), space="another")],
        "none succeeded": [row(0, (0,) * len(SPACE.genes), state="fail", reason="no")],
    }[what]
    results.append(other / "results.jsonl", rows)
    assert main([str(searched), str(other)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (searched / "report").exists()
