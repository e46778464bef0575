"""The interface of evaluations: from a candidate to its costs and its accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from effkeras.search.genomes import Genome


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genome to evaluate; `seed` is drawn from the search's seed and the genome."""

    genome: Genome
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an evaluation.

    `accuracy` is the task's metric in 0..1 on the validation split; `metrics` holds further values
    (proxies, epochs trained, seconds).
    """

    accuracy: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Report(Protocol):
    """Receives the progress of an evaluation, and may end it."""

    def __call__(self, step: int, accuracy: float) -> None:
        """Called after epoch `step`, from 1; raises `Pruned` to end the evaluation."""
        ...


class Evaluator(Protocol):
    """Evaluates candidates; any exception except `Pruned` means that the candidate failed."""

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """The costs of a candidate by name; called once, before the evaluation, which limits may skip."""
        ...

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Evaluates a candidate; equal candidates give equal outcomes, except for measured times."""
        ...


class Pruned(Exception):  # noqa: N818 - no error
    """Ends an evaluation early because other candidates are more promising.

    The candidate keeps the last accuracy that it reported.
    """
