from __future__ import annotations

import json

import numpy as np
import pytest
from support.fake_search import FakeSpace
from support.short_trials import BlockSpace

from effkeras.search.benchmarks import rank_bench
from effkeras.search.benchmarks.rank_bench import Evaluators, drawn, ranking, rankings
from effkeras.search.benchmarks.table_space import Outcome, TableSpace
from effkeras.search.evaluation.block_tables import kendall_tau
from effkeras.search.evaluation.settings import PROXIES, Candidate
from effkeras.search.evaluation.settings import Outcome as Evaluated
from effkeras.search.genomes import all_genomes, key
from effkeras.support.errors import EffkerasError

TABLE = TableSpace(
    FakeSpace(sizes=(5, 4)), {(a, b): Outcome(a / 10 + b / 100, {}) for a in range(5) for b in range(4)}
)


def worth(genome) -> float:
    return TABLE.outcome(genome).accuracy


def proxies(candidate, report):
    right = dict.fromkeys(PROXIES, worth(candidate.genome))
    return Evaluated(0.0, right | {"macs": -worth(candidate.genome)})


def trainings(candidate, report):
    return Evaluated(1.0 if candidate.genome[0] > 2 else 0.5)


def test_every_figure_is_put_beside_the_accuracies_of_the_table():
    chosen = drawn(TABLE, 12)
    found = {one.figure: one for one in rankings(TABLE, Evaluators(proxies, trainings), chosen, 6)}
    assert list(found) == [*PROXIES, "trained again"]
    assert found["synflow"].tau.value == pytest.approx(1)
    assert found["macs"].tau.value == pytest.approx(-1)
    again = found["trained again"]
    told = [trainings(Candidate(genome, 0), None).accuracy for genome in chosen[:6]]
    assert again.tau.value == pytest.approx(kendall_tau(told, [worth(genome) for genome in chosen[:6]]))
    assert 0 < again.tau.value < 1
    assert again.to_row()["networks"] == 6


def test_chance_is_in_the_interval_of_a_figure_by_chance():
    random = np.random.default_rng(0)
    tau = ranking("dice", random.random(60), random.random(60)).tau
    assert tau.low < 0 < tau.high
    assert tau.low < tau.value < tau.high
    more = ranking("dice", random.random(240), random.random(240)).tau
    assert more.high - more.low < 0.7 * (tau.high - tau.low)


def test_the_same_networks_are_drawn_again_and_not_more_than_there_are():
    assert drawn(TABLE, 20) == drawn(TABLE, 20)
    assert len(set(drawn(TABLE, 20))) == 20
    with pytest.raises(EffkerasError, match="has 20 networks, which are fewer than 21"):
        drawn(TABLE, 21)


@pytest.fixture
def words(digit_classes, tmp_path, monkeypatch):
    """The command on a table of small networks."""
    space = BlockSpace()
    rows = {key(genome): {"accuracy": sum(genome) / 10} for genome in all_genomes(space)}
    genes = {gene.name: gene.choices for gene in space.genes}
    (tmp_path / "table.json").write_text(json.dumps({"genes": genes, "rows": rows}))
    (tmp_path / "how.toml").write_text("epochs = 1\nbatch = 12\n")
    monkeypatch.setattr(rank_bench, "read_space", lambda name: space)
    made = ["--table", tmp_path / "table.json", "--space", "blocks", "--config", tmp_path / "how.toml"]
    made += ["--data", digit_classes, "--out", tmp_path / "rows.jsonl"]
    made += ["--networks", 4, "--again", 2]
    return [str(word) for word in made]


@pytest.mark.slow
def test_from_a_table_to_rows(words, tmp_path, capsys):
    """The real proxies and trainings of four small networks."""
    assert rank_bench.main(words) == 0
    assert "trained again" in capsys.readouterr().out
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["figure"] for row in found] == [*PROXIES, "trained again"]
    assert [row["networks"] for row in found] == [4] * 3 + [2]
    assert {row["table"] for row in found} == {"table.json"}
    assert -1 <= found[0]["tau"][0] <= 1


def test_settings_that_make_no_sense_are_one_line(words, tmp_path, capsys):
    (tmp_path / "how.toml").write_text("epoch = 1\n")
    assert rank_bench.main(words) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert "epoch" in line
    assert not (tmp_path / "rows.jsonl").exists()
