"""Running a search: the time left is that of the workers together."""

from __future__ import annotations

import pytest

from effkeras.search.run import Display, Pace, Status
from effkeras.search.trials.records import Result, Trial


def status(finished, running=1, best=None):
    return Status(10, finished, failed=0, pruned=0, running=running, repeats=0, best=best)


def seconds_left(*seen):
    """The time left after each of (seconds, finished, running)."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    found = []
    for now[0], finished, running in seen:
        found.append(pace.left(status(finished, running)))
    return found


def test_trials_of_minutes_have_a_time_left():
    found = seconds_left(
        (0, 0, 1), (99, 0, 1), (100, 1, 1), (150, 1, 1), (240, 2, 1), (2000, 9, 1), (9000, 9, 1)
    )
    assert found == [None, None, 900, 850, 960, pytest.approx(2000 / 9), 0]


def test_workers_share_what_is_left():
    assert seconds_left((0, 0, 2), (100, 1, 2), (102, 2, 2), (200, 3, 2)) == [
        None,
        None,
        51 * 8,
        pytest.approx(200 / 3 * 7),
    ]


def test_what_an_earlier_run_made_does_not_count():
    assert seconds_left((0, 6, 1), (50, 7, 1)) == [None, 150]


def test_without_a_terminal_each_best_comes_with_the_time_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("effkeras.search.run.Pace", lambda: Pace(lambda: now[0]))
    with Display("macs") as display:
        display(status(0))
        now[0] = 400.0
        display(status(1, best=Trial(0, 1, (0,), 0, "complete", 0, tell=0, result=Result(0.5, 0.5))))
    assert capsys.readouterr().err == "1 of 10 trials; about 1 h 0 min left; best 0.5000\n"
