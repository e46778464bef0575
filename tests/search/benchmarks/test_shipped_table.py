"""The table of trained networks that ships: all of its space, small, and true to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from effkeras.data.classes import Classes
from effkeras.graph.counting import cost
from effkeras.search.benchmarks.problems import TableProblem
from effkeras.search.benchmarks.strategy_bench import Comparison, main, played
from effkeras.search.benchmarks.table_space import read_table
from effkeras.search.evaluation.settings import EvaluationSettings, checked
from effkeras.search.genomes import all_genomes
from effkeras.search.spaces.reading import read_space
from effkeras.support import results
from effkeras.support.tables import read_toml, to_record

MODELS = Path(__file__).parents[3] / "models"
FILE = MODELS / "digits-tiny.json"


@pytest.fixture(scope="module")
def space():
    return read_space("digits-tiny")


@pytest.fixture(scope="module")
def trained(space):
    return read_table(FILE, space)


def test_it_has_every_network_of_its_space_and_is_small(space, trained):
    assert set(trained.outcomes) == set(all_genomes(space))
    assert len(trained.outcomes) >= 1000
    assert FILE.stat().st_size < 1_000_000


def test_its_costs_are_those_of_the_networks(space, trained):
    classes = Classes(tuple(map(str, range(10))))
    for genome in list(trained.outcomes)[::137]:
        costs = trained.outcome(genome).costs
        assert (costs["parameters"], costs["macs"]) == cost(classes.given_to(space.spec(genome)))


def test_its_networks_have_learned(trained):
    """Ten digits: chance is 0.1."""
    accuracies = sorted(outcome.accuracy for outcome in trained.outcomes.values())
    assert accuracies[0] > 0.15
    assert accuracies[-1] > 0.6


def test_how_it_was_trained_is_a_file():
    path = MODELS / "digits-tiny.toml"
    settings = checked(to_record(EvaluationSettings, read_toml(path), str(path)))
    assert settings.kind == "train"


def test_evolution_finds_more_in_it_than_random_search_and_the_largest_hold_the_best(trained):
    problem = TableProblem(trained)
    contest = Comparison("table", lambda seed: problem, range(20), 100)
    regrets = {result.strategy: result.score.regret.value for result in played(contest, ["evolution"])}
    assert 0 < 2 * regrets["evolution"] < regrets["random"]
    assert regrets["largest"] == 0


def test_a_target_is_part_of_the_contest(tmp_path, capsys):
    words = ["--table", str(FILE), "--space", "digits-tiny", "--target", "200e3", "--seeds", "2"]
    rows = tmp_path / "rows.jsonl"
    assert main([*words, "--evaluations", "30", "--only", "logits", "--out", str(rows)]) == 0
    assert "digits-tiny.json, macs 200,000" in capsys.readouterr().out
    found = {row["strategy"]: row for row in results.read(rows)}
    assert list(found) == ["random", "logits", "largest"]
    assert all(row["regret"][0] >= 0 for row in found.values())
