"""Finished searches: their candidates read from results.jsonl, the best so far, and which genes mattered."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.search.folder import KIND, ROWS
from effkeras.search.genomes import Choice
from effkeras.support import results
from effkeras.support.errors import EffkerasError


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


def best_so_far(rewards: Sequence[float]) -> np.ndarray:
    """The highest reward up to each trial."""
    return np.maximum.accumulate(np.asarray(rewards, float))


def expected_best(rewards: Sequence[float]) -> np.ndarray:
    """The mean highest reward of 1, 2, ... of these, drawn without putting back.

    Exact over all orders of a random search's trials, where its own course is but one of them
    (arXiv:1909.03004, which puts back).
    """
    ordered = np.sort(np.asarray(rewards, float))
    count = len(ordered)
    # Of all sets of n, the share whose best is the i-th smallest: C(i, n - 1) / C(count, n), step by step.
    best = np.empty(count)
    shares = np.full(count, 1 / count)
    places = np.arange(count)
    for drawn in range(1, count + 1):
        best[drawn - 1] = shares @ ordered
        if drawn < count:
            shares = shares * (places - drawn + 1) / drawn * (drawn + 1) / (count - drawn)
    return best


# With fewer trials the ranking is chance.
LEAST = 16


def importances(search: Search) -> dict[str, float]:
    """The share of each gene that has more than one choice tried, the largest first.

    {} for few trials, and where all have one reward.

    A gene matters when its choices among the best tenth of the trials differ from those among all.

    Raises EffkerasError without Optuna.
    """
    try:
        import optuna
    except ImportError as error:
        raise EffkerasError("a search's report needs Optuna: pip install 'effkeras[search]'") from error
    open_genes = _open_genes(search)
    rewards = {point.reward for point in search.points}
    if len(search.points) < LEAST or not open_genes or len(rewards) == 1:
        return {}
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction="maximize")
            study.add_trials([_trial(point, open_genes) for point in search.points])
            judge = optuna.importance.PedAnovaImportanceEvaluator()
            return optuna.importance.get_param_importances(study, evaluator=judge)
    finally:
        optuna.logging.set_verbosity(before)


def _open_genes(search: Search) -> dict[str, list[str]]:
    """The choices that were tried, as words, of genes with several."""
    tried = {
        gene: sorted({str(point.choices[gene]) for point in search.points})
        for gene in search.points[0].choices
    }
    return {gene: words for gene, words in tried.items() if len(words) > 1}


def _trial(point: Point, genes: dict[str, list[str]]) -> object:
    import optuna

    return optuna.trial.create_trial(
        params={gene: str(point.choices[gene]) for gene in genes},
        distributions={
            gene: optuna.distributions.CategoricalDistribution(words) for gene, words in genes.items()
        },
        value=point.reward,
    )
