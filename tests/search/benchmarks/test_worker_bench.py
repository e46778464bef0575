from __future__ import annotations

import pytest
from support.fake_search import Fake, fake_job

from effkeras.search.benchmarks.worker_bench import Pace, Trial, pace_of
from effkeras.search.run import search
from effkeras.search.trials.job import create_store
from effkeras.search.trials.processes import Processes
from effkeras.support.errors import EffkerasError


def test_trials_an_hour_and_what_is_left_of_a_workers_time():
    alone = Pace(1, (Trial(100.0, 102.1, 2.0), Trial(102.2, 104.0, 1.8)))
    assert alone.span == pytest.approx(4.0)
    assert alone.per_hour == pytest.approx(1800)
    assert alone.beside == pytest.approx(100)
    together = Pace(2, (Trial(100.0, 102.0, 2.0), Trial(100.0, 101.8, 1.8)))
    assert together.per_hour == pytest.approx(3600)
    assert together.beside == pytest.approx(100)  # one waits 0.2 s for the other


def test_the_store_knows_the_times(tmp_path):
    job = fake_job(tmp_path / "out", trials=4, evaluation=Fake(seconds=0.05))
    search(job, Processes(1))
    pace = pace_of(job.out, 1)
    assert len(pace.trials) == 4
    assert 0.05 <= pace.evaluation < 0.5
    assert 0 < pace.beside < 5000
    assert all(one.finished - one.begun >= one.evaluation for one in pace.trials)


def test_a_search_without_a_trial_is_an_error(tmp_path):
    job = fake_job(tmp_path / "out", trials=1)
    job.out.mkdir()
    create_store(job)
    with pytest.raises(EffkerasError, match="no finished trial"):
        pace_of(job.out, 1)
