"""The trials of a search, read from the rows that it keeps in results.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras import results
from effkeras.errors import EffkerasError
from effkeras.search.genomes import Choice

ROWS = "results.jsonl"
KIND = "trial"


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate that was evaluated to its end."""

    trial: int
    reward: float
    accuracy: float
    costs: Mapping[str, float]
    choices: Mapping[str, Choice]
    seconds: float


@dataclass(frozen=True, slots=True)
class Search:
    """One search: its points in the order in which they were finished, and what became of the others.

    `failed` counts candidates by the reason for which they failed.
    """

    name: str
    space: str
    strategy: str
    points: tuple[Point, ...]
    pruned: int
    failed: Mapping[str, int]

    @property
    def best(self) -> Point:
        """The first of the highest reward."""
        return max(self.points, key=lambda point: point.reward)


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
    failed: dict[str, int] = {}
    for row in evaluated:
        if row["state"] == "fail":
            failed[row.get("reason", "")] = failed.get(row.get("reason", ""), 0) + 1
    pruned = sum(row["state"] == "pruned" for row in evaluated)
    return Search(folder.name, rows[0]["space"], rows[0]["strategy"], points, pruned, failed)


def _point(row: Mapping[str, Any]) -> Point:
    return Point(
        row["trial"], row["reward"], row["accuracy"], row["costs"], row["choices"], row.get("seconds", 0.0)
    )
