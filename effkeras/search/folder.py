"""The folder of a search.

`search.toml` identifies the search. It is written first, in one piece, and every later run is compared with
it. `results.jsonl` has a row for each finished trial; `best.toml` and `front/TRIAL.toml` are the definitions
of the best candidates. These are derived from the store: the next run writes what a killed run did not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effkeras.data.contents import Contents
from effkeras.definitions.definition import ModelSpec
from effkeras.search.evaluation.settings import REMOVED_KEYS
from effkeras.search.genomes import Genome, chosen, key
from effkeras.search.trials.job import SearchJob, space_digest, space_name
from effkeras.search.trials.records import Result, Trial, best_of, front_of
from effkeras.search.trials.store import FILE as STORE
from effkeras.support import results
from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.tables import Table, current_names, read_toml, to_record

FILE = "search.toml"
# Further facts about the space; only its digest decides whether two spaces are equal.
_SPACE_FACTS = ("source", "definition")
_CONTENTS = "contents"  # of the split train
# Keys that earlier versions did not write, and what they meant without them.
_ADDED: Table = {"evaluation.data.one_based": False}


def identify(job: SearchJob) -> None:
    """Writes the job's `search.toml`, or checks that the folder already belongs to this job.

    Raises EffkerasError, which names the difference, when the folder holds another search.
    """
    path = job.out / FILE
    if path.exists():
        _compare(path, description(job))
        _compare_data(path, job.data)
        _check_store(job.out)
    else:
        _check_unused(job.out)
        contents = {_CONTENTS: dataclasses.asdict(job.data)} if job.data else {}
        write_text(path, _toml(description(job) | _space_facts(job) | contents))


def description(job: SearchJob) -> Table:
    """What identifies a search; the numbers of trials and workers are not part of it."""
    return {
        "schema": 1,
        "seed": job.seed,
        "pruner": job.pruner,
        "space": {"name": space_name(job.space), "digest": space_digest(job.space)},
        "strategy": {"name": job.strategy.name, **job.strategy.options},
        "objective": _facts(job.objective, job.out),
        "evaluation": _facts(job.evaluation, job.out),
    }


def _compare(path: Path, ours: Table) -> None:
    table = {key: value for key, value in read_toml(path).items() if key not in (*_SPACE_FACTS, _CONTENTS)}
    mine = flat(_plain(ours))
    added = {name: value for name, value in _ADDED.items() if name in mine}
    theirs = added | current_names(_without_removed(flat(table)), str(path))
    for name in dict.fromkeys([*theirs, *mine]):
        if theirs.get(name) != mine.get(name):
            raise EffkerasError(
                f"{path.parent} holds another search: {_difference(name, theirs, mine)}; "
                "give the same options to go on with it, or another --out"
            )


def _compare_data(path: Path, data: Contents | None) -> None:
    """Raises EffkerasError if the data are not those of the search so far; earlier versions kept nothing."""
    kept = read_toml(path).get(_CONTENTS)
    if kept is None or data is None:
        return
    changes = data.changes(to_record(Contents, kept, str(path)))
    if changes:
        raise EffkerasError(
            f"the data of {path.parent} have changed: train has {changes}; give another --out"
        )


def _without_removed(table: Table) -> Table:
    """Drops the keys that only earlier versions wrote; they never affected a training's result."""
    removed = {f"evaluation.settings.{key}" for key in REMOVED_KEYS}
    return {name: value for name, value in table.items() if name not in removed}


def _difference(name: str, theirs: Table, mine: Table) -> str:
    if name == "space.digest":
        return f"the choices of the space {mine['space.name']} have changed"
    before, now = (repr(table[name]) if name in table else "not given" for table in (theirs, mine))
    return f"{name} was {before} and is now {now}"


def _check_unused(out: Path) -> None:
    """Raises EffkerasError for a store without its `search.toml`."""
    if (out / STORE).exists():
        raise EffkerasError(
            f"{out} has a {STORE} but no {FILE}, so nothing says which search it is of; give another --out"
        )


def _check_store(out: Path) -> None:
    """Raises EffkerasError for rows without their store: a new one would start again beside them."""
    rows = len(trial_rows(out))
    if rows and not (out / STORE).exists():
        raise EffkerasError(
            f"{out} has the rows of {rows} trials, but its {STORE} is gone; put that back, give another "
            f"--out, or delete {out / ROWS} too, and the search starts anew"
        )


def check_rows(out: Path, trials: Sequence[Trial]) -> None:
    """Raises EffkerasError for rows of trials that the store does not hold, as an older copy of it."""
    finished = {str(trial.number): key(trial.genome) for trial in trials if trial.is_finished}
    for row in trial_rows(out):
        number = str(row.get("trial"))
        if finished.get(number, "") != row.get("genome"):
            raise EffkerasError(
                f"{out / ROWS} has a row of trial {number} that {out / STORE} does not have; put the "
                f"store of this search back, or delete {ROWS}, which is then written anew from the store"
            )


def _space_facts(job: SearchJob) -> Table:
    source, table = (getattr(job.space, name, None) for name in ("source", "table"))
    return ({"source": source} if source else {}) | ({"definition": dict(table)} if table else {})


def _facts(thing: Any, out: Path) -> Table:
    """An object's class name and, for a dataclass, its fields of plain data."""
    facts: Table = {"is": type(thing).__name__}
    if not dataclasses.is_dataclass(thing):
        return facts
    for entry in dataclasses.fields(thing):
        value = getattr(thing, entry.name)
        if hasattr(value, "genes") or value == out.absolute():
            continue  # the space has its own table, and the folder may be moved
        if _is_data(value):
            facts[entry.name] = value
        elif dataclasses.is_dataclass(value):
            facts[entry.name] = _facts(value, out)
    return facts


def _is_data(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_data, value))
    if isinstance(value, Mapping):
        return all(map(_is_data, value.values()))
    return isinstance(value, bool | int | float | str | Path)


def _plain(value: Any) -> Any:
    """Converts values to those that reading the TOML file returns."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def flat(table: Mapping[str, Any], prefix: str = "") -> Table:
    """Flattens nested tables to values by path, such as `objective.target`."""
    values: Table = {}
    for name, value in table.items():
        path = f"{prefix}{name}"
        values |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return values


def _toml(table: Table) -> str:
    import tomli_w

    return tomli_w.dumps(_plain(table))


ROWS, BEST, FRONT = "results.jsonl", "best.toml", "front"
KIND = "trial"


def trial_rows(folder: Path) -> list[results.Row]:
    """The rows of finished trials in a search's folder; the version before wrote "told" for "tell"."""
    rows = [row for row in results.read(folder / ROWS) if row.get("kind") == KIND]
    return [{"tell" if key == "told" else key: value for key, value in row.items()} for row in rows]


class Publisher:
    """Keeps `results.jsonl`, `best.toml` and, for a Pareto search, `front/TRIAL.toml` up to date."""

    def __init__(self, job: SearchJob) -> None:
        self._job = job
        self._written = {row["trial"] for row in trial_rows(job.out)}
        self._best: Genome | None = None
        self._front: list[int] | None = None

    def publish(self, trials: list[Trial]) -> None:
        """Appends rows for new trials, in the order in which they finished, and updates the definitions."""
        fresh = [trial for trial in trials if trial.is_finished and trial.number not in self._written]
        fresh.sort(key=lambda trial: trial.tell or 0)
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
            "tell": trial.tell,
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
        """Writes a definition for each network of the front; deletes those of networks that left it."""
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
    """A candidate's definition, with the classes of the data; None when the space does not define models."""
    define: Any = getattr(job.space, "spec", None)
    if define is None:
        return None
    spec: ModelSpec = define(genome)
    return spec if job.classes is None else job.classes.given_to(spec)
