"""Writes trials into a store as fast as it can, until its process is killed."""

from __future__ import annotations

from pathlib import Path

from effkeras.search.trials.records import Ask, Result, StudySpec
from effkeras.search.trials.store import Log
from effkeras.support.locks import locked
from support.fake_search import FakeSpace

GENES, CHOICES = 20, 6
SPEC = StudySpec(FakeSpace(sizes=(CHOICES,) * GENES), "kills", "macs")
RESULT = Result(0.5, 0.5, {"macs": 1.0})


def genome_of_number(number):
    """The number's digits: no two trials have the same genome."""
    return tuple(number // CHOICES**place % CHOICES for place in range(GENES))


def write_trials(folder: Path, owner: str):
    """Finishes what a killed writer left running, then asks and finishes; one writer at a time."""
    log = Log(folder, SPEC)
    while True:
        with locked(folder / "log.lock"):
            trials = log.read()
            finished = sum(trial.is_finished for trial in trials)
            for trial in trials:
                if not trial.is_finished:
                    log.adopt(trial, owner, trial.deaths + 1)
                    log.finish(trial, RESULT, finished)
                    finished += 1
            log.add(Ask(genome_of_number(len(trials)), len(trials), finished, owner), len(trials))
