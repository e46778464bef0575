"""Workers that die are started again as long as trials are finished between their deaths."""

from __future__ import annotations

from effkeras.search.trials.workers import DeathCount


def test_five_deaths_in_a_row_without_a_trial_are_too_many():
    deaths = DeathCount(finished=3)
    assert [deaths.are_too_many(3) for _ in range(5)] == [False, False, False, False, True]


def test_a_finished_trial_starts_the_count_anew():
    deaths = DeathCount(finished=0)
    assert not any(deaths.are_too_many(finished) for finished in (0, 0, 0, 0, 1, 1, 1, 1, 1, 2))
    assert not any(deaths.are_too_many(2) for _ in range(4))
    assert deaths.are_too_many(2)


def test_a_lost_machine_of_many_workers_is_not_too_many():
    deaths = DeathCount(finished=3, workers=8)
    assert not any(deaths.are_too_many(3) for _ in range(8))
    assert [deaths.are_too_many(3) for _ in range(32)] == [False] * 31 + [True]
