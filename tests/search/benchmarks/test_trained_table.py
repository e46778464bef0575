from __future__ import annotations

import dataclasses
import json

import pytest
from support.fake_search import Fake, FakeSpace, fake_job

from effkeras.search.benchmarks.table_space import write_trained
from effkeras.search.run import search
from effkeras.search.trials.job import NamedStrategy
from effkeras.search.trials.processes import Processes
from effkeras.support.errors import EffkerasError


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    space = FakeSpace(sizes=(3, 2))
    made = fake_job(
        tmp_path_factory.mktemp("search") / "out", trials=6, space=space, evaluation=Fake(seconds=0)
    )
    job = dataclasses.replace(made, strategy=NamedStrategy("grid"))
    search(job, Processes(1))
    return job


def test_a_grid_becomes_a_table_of_the_whole_space(job, tmp_path):
    table = write_trained(job.out, job.space, tmp_path / "table.json")
    assert sorted(table.outcomes) == [(a, b) for a in range(3) for b in range(2)]
    rows = [json.loads(line) for line in (job.out / "results.jsonl").read_text().splitlines()]
    for row in rows:
        outcome = table.outcomes[tuple(map(int, row["genome"].split("-")))]
        assert outcome.accuracy == pytest.approx(row["accuracy"], abs=1e-4)
        assert outcome.costs == pytest.approx(row["costs"])


def test_a_table_is_the_same_again(job, tmp_path):
    for name in ("one.json", "other.json"):
        write_trained(job.out, job.space, tmp_path / name)
    assert (tmp_path / "one.json").read_text() == (tmp_path / "other.json").read_text()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (FakeSpace(sizes=(2, 2, 2)), "no genome of this space|another space"),
        (FakeSpace("other", sizes=(3, 2)), "holds trials of the space fake, not of other"),
    ],
)
def test_another_space_is_refused(job, tmp_path, space, said):
    with pytest.raises(EffkerasError, match=said):
        write_trained(job.out, space, tmp_path / "table.json")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_trials_is_refused(tmp_path):
    with pytest.raises(EffkerasError, match="no trial that succeeded"):
        write_trained(tmp_path, FakeSpace(), tmp_path / "table.json")
    assert not (tmp_path / "table.json").exists()
