"""Shared parts of policy-gradient search: drawing genomes, the gradient of the loss, Adam, the baseline.

Arrays over genes and choices have the shape (genes, most choices of any gene). Choices that a gene lacks are
masked: their probability is 0. All code is NumPy, so that every worker replays it without TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Arrays = dict[str, np.ndarray]

_EPSILON = 1e-8


class Adam:
    """The Adam optimizer; `rate` is the learning rate, `momentum` is beta1, and beta2 is 0.999."""

    def __init__(self, rate: float, momentum: float) -> None:
        self._rate = rate
        self._betas = (momentum, 0.999)
        self._steps = 0
        self._means: Arrays = {}
        self._squares: Arrays = {}

    def step(self, parameters: Arrays, gradients: Mapping[str, np.ndarray]) -> None:
        """Updates the parameters in place."""
        self._steps += 1
        for name, gradient in gradients.items():
            mean = self._average(self._means, name, gradient, self._betas[0])
            square = self._average(self._squares, name, gradient**2, self._betas[1])
            parameters[name] -= self._rate * mean / (np.sqrt(square) + _EPSILON)

    def _average(self, averages: Arrays, name: str, value: np.ndarray, decay: float) -> np.ndarray:
        averages[name] = decay * averages.get(name, np.zeros_like(value)) + (1 - decay) * value
        return averages[name] / (1 - decay**self._steps)


# Advantages are clipped to -_MOST.._MOST standard deviations: a converged policy has almost equal rewards,
# and a single different one would undo its progress.
_MOST = 3.0
# The advantage of a failed candidate: clearly below average on any scale of rewards.
FAILED = -2.0


class Baseline:
    """Moving averages of the reward and of its squared deviation, without bias at the start.

    `keep` is their decay rate. Both are divided by their weights, as in Adam, so that they start as plain
    means.
    """

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._weight = self._sum = self._squares = 0.0

    def advantage(self, reward: float) -> float:
        """The standard deviations of a reward above earlier ones, 0 for the first; updates the averages."""
        deviation = reward - self._sum / self._weight if self._weight else 0.0
        spread = math.sqrt(self._squares / self._weight) if self._weight else 0.0
        self._weight = self._mean(self._weight, 1.0)
        self._sum = self._mean(self._sum, reward)
        self._squares = self._mean(self._squares, deviation**2)
        if not spread:  # there is no deviation yet
            return float(np.sign(deviation))
        return min(_MOST, max(-_MOST, deviation / spread))

    def _mean(self, old: float, new: float) -> float:
        return self._keep * old + (1 - self._keep) * new


@dataclass(frozen=True, slots=True)
class Drawn:
    """Genomes and the log-probability of each choice, both (batch, genes)."""

    choices: np.ndarray
    logs: np.ndarray


class Policy(Protocol):
    """Computes logits for the genes in order; those of a gene may depend on earlier choices."""

    @property
    def parameters(self) -> Arrays:
        """The learned arrays by name; updated in place."""
        ...

    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """Draws `count` genomes, gene by gene."""
        ...

    def logits(self, choices: np.ndarray) -> tuple[np.ndarray, Any]:
        """The logits (batch, genes, choices) for choices (batch, genes), and the input of `gradients`."""
        ...

    def gradients(self, passed: Any, slopes: np.ndarray) -> Arrays:
        """The gradients of the parameters, given those of the logits."""
        ...


def mask(sizes: Sequence[int]) -> np.ndarray:
    """True for each choice that a gene has: (genes, most choices), bool."""
    return np.arange(max(sizes)) < np.asarray(sizes)[:, None]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The log-probabilities; -inf where logits of -inf mask a choice."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def draw_choices(logits: np.ndarray, random: np.random.Generator) -> Drawn:
    """Draws choices (...) with the probabilities of the logits (..., choices)."""
    logs = log_softmax(logits)
    cumulative = np.cumsum(np.exp(logs), axis=-1)
    drawn = (cumulative <= random.random(logits.shape[:-1])[..., None] * cumulative[..., -1:]).sum(axis=-1)
    return Drawn(drawn, of_choices(logs, drawn))


def of_choices(values: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Selects from values (..., choices) those of the given choices (...)."""
    return np.take_along_axis(values, choices[..., None], axis=-1)[..., 0]


def slopes(logits: np.ndarray, choices: np.ndarray, weights: np.ndarray, entropy: float) -> np.ndarray:
    """The gradient of a policy's loss with respect to the logits.

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
