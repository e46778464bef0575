"""The trials of a search, read from the rows that it keeps in results.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effkeras import results
from effkeras.errors import EffkerasError
from effkeras.search.genomes import Choice

ROWS = "results.jsonl"
KIND = "trial"


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate that was evaluated to its end, for so many seconds."""

    trial: int
    reward: float
    accuracy: float
    costs: Mapping[str, float]
    choices: Mapping[str, Choice]
    seconds: float


@dataclass(frozen=True, slots=True)
class Search:
    """One search: its points in the order in which they were finished, and what became of the others.

    `failed` counts candidates by the reason for which they failed. `seconds` is what the evaluations of all
    candidates took, one after the other; `machines` are those that they ran on.
    """

    name: str
    folder: Path
    space: str
    strategy: str
    seed: int
    points: tuple[Point, ...]
    pruned: int
    failed: Mapping[str, int]
    seconds: float
    machines: tuple[str, ...]

    @property
    def best(self) -> Point:
        """The first of the highest reward."""
        return max(self.points, key=lambda point: point.reward)

    @property
    def candidates(self) -> int:
        """How many were tried, whatever became of them."""
        return len(self.points) + self.pruned + sum(self.failed.values())


def read_searches(folders: Sequence[Path]) -> list[Search]:
    """Each folder's search, once; those of one name are called by their path.

    Raises EffkerasError for a folder that is no search's, and for searches of several spaces.
    """
    searches = [read_search(folder) for folder in dict.fromkeys(folders)]
    spaces = {search.space for search in searches}
    if len(spaces) > 1:
        raise EffkerasError(f"searches of several spaces cannot be compared: {', '.join(sorted(spaces))}")
    times = Counter(search.name for search in searches)
    return [one if times[one.name] == 1 else replace(one, name=str(one.folder)) for one in searches]


def read_search(folder: Path) -> Search:
    """A search's trials.

    Raises EffkerasError when the folder is no search's, or no candidate in it succeeded.
    """
    rows = [row for row in results.read(folder / ROWS) if row.get("kind") == KIND]
    if not rows:
        raise EffkerasError(f"{folder} holds no trials: name the --out folder of `effkeras search`")
    evaluated = sorted((row for row in rows if row.get("same_as") is None), key=lambda row: row["told"])
    points = tuple(_point(row) for row in evaluated if row["state"] == "complete")
    if not points:
        raise EffkerasError(f"{folder}: none of {len(evaluated)} candidates succeeded")
    return Search(
        name=folder.resolve().name,
        folder=folder,
        space=rows[0]["space"],
        strategy=rows[0]["strategy"],
        seed=rows[0].get("seed", 0),
        points=points,
        pruned=sum(row["state"] == "pruned" for row in evaluated),
        failed=Counter(row.get("reason", "") for row in evaluated if row["state"] == "fail"),
        seconds=sum(row.get("seconds", 0.0) for row in evaluated),
        machines=tuple(dict.fromkeys(_machine(row["environment"]) for row in rows if "environment" in row)),
    )


def _machine(environment: Mapping[str, Any]) -> str:
    machine = environment["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores"


def _point(row: Mapping[str, Any]) -> Point:
    return Point(
        row["trial"], row["reward"], row["accuracy"], row["costs"], row["choices"], row.get("seconds", 0.0)
    )
