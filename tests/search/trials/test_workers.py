"""Workers: killed at any moment, they lose nothing that was finished, and what they left is run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_search import Fake, FakeSpace, fake_job, value

from effkeras.search.run import search
from effkeras.search.trials.job import open_ledger, replica
from effkeras.search.trials.ledger import DIED, Limits
from effkeras.search.trials.processes import Processes
from effkeras.support import results
from effkeras.support.errors import EffkerasError

TESTS = Path(__file__).parents[2]


def trials_in(job):
    return open_ledger(job, Limits(job.trials)).trials()


@dataclass
class Killer:
    """Watches a search and kills a worker process now and then, at seeded moments."""

    pool: Processes
    kills: int
    random: random.Random
    done: int = 0
    due: float = 0.0

    def __call__(self, status):
        now = time.monotonic()
        if self.done < self.kills and status.running and now >= self.due:
            os.kill(self.random.choice(self.pool.pids()), signal.SIGKILL)
            self.done += 1
            self.due = now + self.random.uniform(0.1, 0.9)


@pytest.mark.parametrize(
    ("kills", "count"),
    [pytest.param(6, 40, marks=pytest.mark.slow), pytest.param(20, 80, marks=pytest.mark.nightly("search"))],
)
def test_kills_lose_no_finished_trial(kills, count, tmp_path):
    started = tmp_path / "started"
    evaluation = Fake(seconds=0.3, log=started)
    job = fake_job(tmp_path / "out", trials=count, space=FakeSpace(sizes=(6,) * 6), evaluation=evaluation)
    pool = Processes(2)
    killer = Killer(pool, kills, random.Random(0))
    seen = {}

    def watch(status):
        for trial in trials_in(job):
            if trial.is_finished:
                assert seen.setdefault(trial.number, trial) == trial  # what is finished stays as it is
        killer(status)

    status = search(job, pool, watch)
    assert killer.done == kills
    assert status.finished == count
    trials = trials_in(job)
    assert [trials[number] for number in seen] == list(seen.values())
    assert all(trial.is_finished for trial in trials)
    candidates = [trial for trial in trials if trial.is_candidate]
    assert len({trial.genome for trial in candidates}) == count
    for trial in candidates:
        if trial.state == "fail":
            assert trial.result.reason == DIED
        else:
            assert trial.result.accuracy == pytest.approx(value(trial.genome))
    evaluated = started.read_text().splitlines()
    assert len(evaluated) > count, "no orphan was run again"
    finished = {str(trial.genome) for trial in candidates if trial.deaths == 0}
    assert all(evaluated.count(genome) == 1 for genome in finished)
    replica(job).follow(trials)  # the log is that of one search
    rows = results.read(job.out / "results.jsonl")
    assert sorted(row["trial"] for row in rows) == [trial.number for trial in trials]


def test_a_candidate_that_kills_its_process_fails(tmp_path):
    evaluation = Fake(kills=(0, 1))
    job = fake_job(tmp_path, trials=6, seed=3, evaluation=evaluation)
    status = search(job, Processes(1))
    assert status.finished == 6
    failed = [trial for trial in trials_in(job) if trial.state == "fail" and trial.is_candidate]
    assert failed
    assert all(trial.genome[0] in (0, 1) and trial.result.reason == DIED for trial in failed)


def test_one_process_proposes_what_this_one_would(tmp_path):
    from effkeras.search.trials.workers import InProcess

    away, here = fake_job(tmp_path / "away", trials=15), fake_job(tmp_path / "here", trials=15)
    search(away, Processes(1))
    search(here, InProcess())
    assert [trial.genome for trial in trials_in(away)] == [trial.genome for trial in trials_in(here)]
    assert [trial.seed for trial in trials_in(away)] == [trial.seed for trial in trials_in(here)]


def test_workers_that_cannot_start_say_why(tmp_path):
    job = fake_job(tmp_path, evaluation=Fake(broken="there is no such folder"))
    with pytest.raises(EffkerasError, match=r"RuntimeError: there is no such folder.*worker-1\.log"):
        search(job, Processes(1))


def test_what_cannot_be_sent_to_a_process_is_refused(tmp_path):
    job = fake_job(tmp_path, evaluation=lambda: None)
    with pytest.raises(EffkerasError, match="cannot be sent"):
        search(job, Processes(1))


SCRIPT = """
import sys
from pathlib import Path
from support.fake_search import Fake, fake_job
from effkeras.search.run import search
from effkeras.search.trials.processes import Processes

if __name__ == "__main__":
    out = Path(sys.argv[1])
    job = fake_job(out, trials=25, evaluation=Fake(seconds=0.1, log=out / "started"))
    search(job, Processes(1), lambda status: print(status.finished, flush=True))
"""


@pytest.mark.slow
def test_a_search_killed_with_all_its_processes_goes_on_as_if_never_stopped(tmp_path):
    out = tmp_path / "broken"
    out.mkdir()
    for least in (3, 10):
        run_until(out, least)
    whole = fake_job(tmp_path / "whole", trials=25)
    search(whole, Processes(1))
    job = fake_job(out, trials=25, evaluation=Fake(seconds=0.1, log=out / "started"))
    search(job, Processes(1))
    broken = trials_in(job)
    assert [trial.genome for trial in broken] == [trial.genome for trial in trials_in(whole)]
    assert [trial.tell for trial in broken] == [trial.tell for trial in trials_in(whole)]
    assert not any(trial.deaths for trial in broken)


def run_until(out, least):
    """Starts a search in a process of its own and kills that once so many trials are finished."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    )
    for line in process.stdout:
        if int(line) >= least:
            break
    process.kill()
    process.wait()
    process.stdout.close()


def test_an_interrupted_search_leaves_no_process_and_goes_on(tmp_path):
    job = fake_job(tmp_path, trials=6, evaluation=Fake(seconds=0.2))
    pool = Processes(2)
    pids = []

    def interrupt(status):
        if status.finished >= 2:
            pids.extend(pool.pids())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(job, pool, interrupt)
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert search(job, Processes(1)).finished == 6
    assert not any(trial.deaths for trial in trials_in(job))
