"""Finished searches: reads candidates from results.jsonl; the best so far, and the importance of genes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.search.folder import trial_rows
from effkeras.search.genomes import Choice
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate whose evaluation was completed; `seconds` is its duration."""

    trial: int
    reward: float
    accuracy: float
    costs: Mapping[str, float]
    choices: Mapping[str, Choice]
    seconds: float


@dataclass(frozen=True, slots=True)
class Search:
    """One search: its points in the order in which they finished, and counts of the other candidates.

    `failed` counts failed candidates by reason. `seconds` is the sum over the evaluations of all candidates;
    `machines` are the machines of the evaluations.
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
        """The first point with the highest reward."""
        return max(self.points, key=lambda point: point.reward)

    @property
    def candidates(self) -> int:
        """The number of candidates, including failed and pruned ones."""
        return len(self.points) + self.pruned + sum(self.failed.values())


def read_searches(folders: Sequence[Path]) -> list[Search]:
    """Reads each folder's search once; searches with the same name get their path as name.

    Raises EffkerasError for a folder without a search, and for searches of different spaces.
    """
    searches = [read_search(folder) for folder in dict.fromkeys(folders)]
    spaces = {search.space for search in searches}
    if len(spaces) > 1:
        raise EffkerasError(f"searches of several spaces cannot be compared: {', '.join(sorted(spaces))}")
    times = Counter(search.name for search in searches)
    return [one if times[one.name] == 1 else replace(one, name=str(one.folder)) for one in searches]


def read_search(folder: Path) -> Search:
    """Reads a search from its folder.

    Raises EffkerasError when the folder holds no search, or no candidate succeeded.
    """
    rows = trial_rows(folder)
    if not rows:
        raise EffkerasError(f"{folder} holds no trials: name the --out folder of `effkeras search`")
    evaluated = sorted((row for row in rows if row.get("same_as") is None), key=lambda row: row["tell"])
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
    """The expected highest of 1, 2, ... of these rewards, drawn without replacement.

    It is the exact mean over all orders of a random search's trials (arXiv:1909.03004 draws with
    replacement).
    """
    ordered = np.sort(np.asarray(rewards, float))
    count = len(ordered)
    # The share of sets of n whose best is the i-th smallest: C(i, n - 1) / C(count, n), updated for each n.
    best = np.empty(count)
    shares = np.full(count, 1 / count)
    places = np.arange(count)
    for drawn in range(1, count + 1):
        best[drawn - 1] = shares @ ordered
        if drawn < count:
            shares = shares * (places - drawn + 1) / drawn * (drawn + 1) / (count - drawn)
    return best


# With fewer trials, the ranking would be random.
MIN_CANDIDATES = 16


def importances(search: Search) -> dict[str, float]:
    """The importance of each gene with more than one choice tried (PED-ANOVA), the largest first.

    Returns {} for too few trials, and when all rewards are equal. A gene is important if its choices among
    the best tenth of the trials differ from those among all.

    Raises EffkerasError without Optuna.
    """
    try:
        import optuna
    except ImportError as error:
        raise EffkerasError("a search's report needs Optuna: pip install 'effkeras[search]'") from error
    open_genes = _open_genes(search)
    rewards = {point.reward for point in search.points}
    if len(search.points) < MIN_CANDIDATES or not open_genes or len(rewards) == 1:
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
    """For genes with several tried choices: these choices as text."""
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
