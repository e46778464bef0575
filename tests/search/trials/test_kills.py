"""Writers of the store that are killed at random moments, and what Optuna's public API then reads."""

from __future__ import annotations

import multiprocessing
import random
import time

import optuna
import pytest
from optuna.trial import TrialState
from support.store_writer import GENES, RESULT, SPEC, genome_of_number, write_trials

from effkeras.search.trials.store import create_log

MOST_SECONDS = 0.05


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(5, marks=pytest.mark.slow),
        pytest.param(200, marks=pytest.mark.nightly("search")),
    ],
)
def test_kills_at_random_moments_leave_no_half_and_no_double_trial(tmp_path, kills):
    create_log(tmp_path, SPEC)
    for number in range(kills):
        kill_a_writer(tmp_path, random.Random(number).uniform(0, MOST_SECONDS))
    trials = stored(tmp_path)
    print(f"{kills} kills, {len(trials)} trials")
    assert len(trials) > kills
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        genome = genome_of_number(trial.number)
        assert trial.params == {f"gene{i}": genome[i] for i in range(GENES)}
        assert trial.user_attrs["genome"] == "-".join(map(str, genome))
        assert {"seed", "after", "owner"} <= set(trial.user_attrs)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert all(trial.value == RESULT.reward and "result" in trial.user_attrs for trial in done)
    assert sorted(trial.user_attrs["tell"] for trial in done) == list(range(len(done)))
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert len(done) + len(running) == len(trials)
    assert len(running) <= 1
    assert not any({"result", "tell"} & set(trial.user_attrs) for trial in running)


def kill_a_writer(folder, seconds):
    """Starts a writer, and kills it `seconds` after it wrote something."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.store_writer"])
    writer = context.Process(target=write_trials, args=(folder, f"host/session/{time.monotonic_ns()}"))
    before = written(folder)
    writer.start()
    until = time.monotonic() + 60
    while written(folder) == before:
        assert writer.is_alive()
        assert time.monotonic() < until
        time.sleep(0.001)
    time.sleep(seconds)
    writer.kill()
    writer.join()
    writer.close()


def written(folder):
    """Changes with every transaction."""
    log = folder / "search.db-wal"
    return log.stat().st_mtime_ns if log.exists() else 0


def stored(folder):
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/search.db")
    study = optuna.load_study(study_name=SPEC.name, storage=storage)
    return study.get_trials(deepcopy=False)
