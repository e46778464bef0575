"""What a search writes for others to read: a row for each trial, and definitions of the best.

All follow from the store, so that what a kill has kept from being written is written next time.
"""

from __future__ import annotations

from typing import Any

from effkeras import results
from effkeras.definition import ModelSpec
from effkeras.files import write_text
from effkeras.search.genomes import Genome, chosen, key
from effkeras.search.job import SearchJob, space_name
from effkeras.search.store.records import Result, Trial, best_of, front_of
from effkeras.tables import Table

ROWS, BEST, FRONT = "results.jsonl", "best.toml", "front"
KIND = "trial"


class Publisher:
    """Keeps `results.jsonl`, `best.toml` and, of a Pareto search, `front/TRIAL.toml` up to date."""

    def __init__(self, job: SearchJob) -> None:
        self._job = job
        rows = results.read(job.out / ROWS)
        self._written = {row["trial"] for row in rows if row.get("kind") == KIND}
        self._best: Genome | None = None
        self._front: list[int] | None = None

    def publish(self, trials: list[Trial]) -> None:
        """Writes what is new, in the order in which the trials were finished."""
        fresh = [trial for trial in trials if trial.is_finished and trial.number not in self._written]
        fresh.sort(key=lambda trial: trial.told or 0)
        if fresh:
            results.append(self._job.out / ROWS, [results.stamped(self._row(trial)) for trial in fresh])
            self._written |= {trial.number for trial in fresh}
        best = best_of(trials)
        if best is not None and best.genome != self._best:
            self._write_best(best.genome)
            self._best = best.genome
        if self._job.is_front:
            self._publish_front(front_of(trials, self._job.objective.cost))

    def _row(self, trial: Trial) -> Table:
        result = trial.result or Result()
        row: Table = {
            "kind": KIND,
            "trial": trial.number,
            "told": trial.told,
            "state": trial.state,
            "genome": key(trial.genome),
            "choices": chosen(self._job.space, trial.genome),
            "space": space_name(self._job.space),
            "strategy": self._job.strategy.name,
            "seed": self._job.seed,
        }
        if trial.same_as is not None:
            row["same_as"] = trial.same_as
        return row | {name: value for name, value in result.to_table().items() if name != "pruned"}

    def _write_best(self, genome: Genome) -> None:
        spec = winner(self._job, genome)
        if spec is not None:
            write_text(self._job.out / BEST, spec.to_toml())

    def _publish_front(self, front: list[Trial]) -> None:
        """A definition for each network of the front; those of networks that have left it go."""
        numbers = [trial.number for trial in front]
        if numbers == self._front:
            return
        folder, self._front = self._job.out / FRONT, numbers
        files = {folder / f"{trial.number}.toml": trial.genome for trial in front}
        for file, genome in files.items():
            spec = None if file.exists() else winner(self._job, genome)
            if spec is not None:
                write_text(file, spec.to_toml())
        for file in set(folder.glob("*.toml")) - set(files):
            file.unlink(missing_ok=True)


def winner(job: SearchJob, genome: Genome) -> ModelSpec | None:
    """A candidate's definition, with the classes of the data; None when the space is not one of models."""
    define: Any = getattr(job.space, "spec", None)
    if define is None:
        return None
    spec: ModelSpec = define(genome)
    return spec if job.classes is None else job.classes.given_to(spec)
