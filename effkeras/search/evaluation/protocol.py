"""What every evaluation is: a candidate in, its costs and its accuracy out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from effkeras.search.genomes import Genome


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to be evaluated; `seed` is drawn from the search's seed and the genome."""

    genome: Genome
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation found.

    `accuracy` is the task's metric in 0..1 on the validation split; `metrics` holds whatever else is worth
    keeping (proxies, epochs trained, seconds).
    """

    accuracy: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Report(Protocol):
    """Tells how far an evaluation is; whoever listens may end it."""

    def __call__(self, step: int, accuracy: float) -> None:
        """After epoch `step`, from 1; raises `Pruned` when the candidate is not worth more."""
        ...


class Evaluator(Protocol):
    """Evaluates candidates; any exception but `Pruned` means that this candidate failed."""

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """What a candidate costs, by name; asked for once, before the evaluation, which it may spare."""
        ...

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """The same candidate gives the same outcome, but for what is measured in time."""
        ...


class Pruned(Exception):  # noqa: N818 - no error
    """An evaluation that was ended early because others promise more.

    The candidate then counts with the last accuracy that it reported.
    """
