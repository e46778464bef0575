"""What every evaluation is: a candidate in, its accuracy and costs out."""

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

    `accuracy` is the task's metric in 0..1 on the validation split. `costs` holds what was measured of
    "parameters", "macs", "bytes" and "latency_ms"; `metrics` whatever else is worth keeping (proxies,
    epochs trained, seconds).
    """

    accuracy: float
    costs: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)


class Report(Protocol):
    """Tells how far an evaluation is; whoever listens may end it."""

    def __call__(self, step: int, accuracy: float) -> None:
        """After epoch `step`, from 1; raises `Pruned` when the candidate is not worth more."""
        ...


class Evaluator(Protocol):
    """Evaluates candidates; any exception but `Pruned` means that this candidate failed."""

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """The same candidate gives the same outcome, but for what is measured in time."""
        ...

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """What a candidate costs, without evaluating it: what one that was pruned is judged by."""
        ...


class Pruned(Exception):  # noqa: N818 - no error
    """An evaluation that was ended early because others promise more.

    The candidate then counts with the last accuracy that it reported, and with its evaluator's `costs`.
    """
