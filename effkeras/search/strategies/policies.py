"""What a policy is: parameters from which the probability of every choice of every gene follows.

Arrays over genes and choices have the shape (genes, most choices of any gene); what a gene has fewer is
masked, with probability 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from effkeras.search.strategies.adam import Arrays


@dataclass(frozen=True, slots=True)
class Drawn:
    """Genomes and the log-probability of each choice, both (batch, genes)."""

    choices: np.ndarray
    logs: np.ndarray


class Policy(Protocol):
    """Gives logits for the genes in order; those of a gene may depend on the choices before it."""

    @property
    def parameters(self) -> Arrays:
        """What is learned, by name; changed in place."""
        ...

    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """So many genomes, choice by choice."""
        ...

    def logits(self, choices: np.ndarray) -> tuple[np.ndarray, Any]:
        """The logits (batch, genes, choices) on the way to choices (batch, genes); and for `gradients`."""
        ...

    def gradients(self, passed: Any, slopes: np.ndarray) -> Arrays:
        """The gradients of the parameters, given those of the logits."""
        ...


def mask(sizes: Sequence[int]) -> np.ndarray:
    """Which choices there are: (genes, most choices), bool."""
    return np.arange(max(sizes)) < np.asarray(sizes)[:, None]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The logarithms of the probabilities, -inf for what is masked by logits of -inf."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def draw_choices(logits: np.ndarray, random: np.random.Generator) -> Drawn:
    """Choices drawn with the probabilities that the logits (..., choices) give; the results are (...)."""
    logs = log_softmax(logits)
    reach = np.cumsum(np.exp(logs), axis=-1)
    drawn = (reach <= random.random(logits.shape[:-1])[..., None] * reach[..., -1:]).sum(axis=-1)
    return Drawn(drawn, of_choices(logs, drawn))


def of_choices(values: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Of values (..., choices) those of the choices (...) made."""
    return np.take_along_axis(values, choices[..., None], axis=-1)[..., 0]


def slopes(logits: np.ndarray, choices: np.ndarray, weights: np.ndarray, entropy: float) -> np.ndarray:
    """The gradient, by the logits, of the loss that a policy descends.

    The loss is the batch's mean of -sum(weights * log p(choices)) - entropy * sum(H), with `weights`
    (batch, genes) held constant and H each gene's entropy in nats.
    """
    logs = log_softmax(logits)
    chances = np.exp(logs)
    logs = np.where(chances > 0, logs, 0.0)
    chosen = np.arange(logits.shape[-1]) == choices[..., None]
    spread = -(chances * logs).sum(axis=-1, keepdims=True)
    by_choice = weights[..., None] * (chances - chosen)
    return (by_choice + entropy * chances * (logs + spread)) / len(choices)
