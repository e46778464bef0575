"""Which search a folder holds.

`search.toml` says it; it is written whole before anything else, and compared by every later run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effkeras.errors import EffkerasError
from effkeras.files import write_text
from effkeras.search.evaluation.settings import REMOVED_KEYS
from effkeras.search.job import SearchJob, space_digest, space_name
from effkeras.tables import Table, read_toml

FILE = "search.toml"
# What else the file says of the space; its digest tells whether it is the same.
_SAID = ("source", "definition")


def identify(job: SearchJob) -> None:
    """Makes the folder the job's, or finds that it is already.

    Raises EffkerasError, naming the difference, when it holds another search.
    """
    path = job.out / FILE
    if path.exists():
        _compare(path, description(job))
    else:
        _check_unused(job.out)
        write_text(path, _toml(description(job) | _said(job)))


def description(job: SearchJob) -> Table:
    """What makes a search this one; the numbers of trials and workers do not."""
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
    theirs = _without_removed(
        flat({key: value for key, value in read_toml(path).items() if key not in _SAID})
    )
    mine = flat(_plain(ours))
    for name in dict.fromkeys([*theirs, *mine]):
        if theirs.get(name) != mine.get(name):
            raise EffkerasError(
                f"{path.parent} holds another search: {_difference(name, theirs, mine)}; "
                "give the same options to go on with it, or another --out"
            )


def _without_removed(table: Table) -> Table:
    """Without the keys that only earlier versions wrote; they never changed what a training finds."""
    removed = {f"evaluation.settings.{key}" for key in REMOVED_KEYS}
    return {name: value for name, value in table.items() if name not in removed}


def _difference(name: str, theirs: Table, mine: Table) -> str:
    if name == "space.digest":
        return f"the choices of the space {mine['space.name']} were others"
    before, now = (repr(table[name]) if name in table else "not given" for table in (theirs, mine))
    return f"{name} was {before} and is now {now}"


def _check_unused(out: Path) -> None:
    """A store without a `search.toml` is none of ours, or has lost it."""
    if (out / "search.db").exists():
        raise EffkerasError(f"{out} has a search.db but no {FILE} that says of what; give another --out")


def _said(job: SearchJob) -> Table:
    source, table = (getattr(job.space, name, None) for name in ("source", "table"))
    return ({"source": source} if source else {}) | ({"definition": dict(table)} if table else {})


def _facts(thing: Any, out: Path) -> Table:
    """An object's kind and, of a dataclass, the fields that are data."""
    facts: Table = {"is": type(thing).__name__}
    if not dataclasses.is_dataclass(thing):
        return facts
    for entry in dataclasses.fields(thing):
        value = getattr(thing, entry.name)
        if hasattr(value, "genes") or value == out.absolute():
            continue  # the space has its own place, and the folder may be moved
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
    """As TOML gives it back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def flat(table: Mapping[str, Any], prefix: str = "") -> Table:
    """The values of all tables inside a table, by their paths: `objective.target`."""
    values: Table = {}
    for key, value in table.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def _toml(table: Table) -> str:
    import tomli_w

    return tomli_w.dumps(_plain(table))
