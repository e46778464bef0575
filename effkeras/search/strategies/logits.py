"""Independent logits: a softmax per gene, learned by policy gradient (TuNAS, arXiv:2008.06120)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effkeras.search.genomes import Space
from effkeras.search.strategies.policies import Arrays, Drawn, draw_choices, mask
from effkeras.search.strategies.policy_search import Learning, PolicySearch
from effkeras.search.strategies.strategy import register


@dataclass(frozen=True, slots=True)
class LogitsOptions(Learning):
    """See `Learning`. Adam without momentum is TuNAS'.

    Its rate of 3e-4, baseline of 0.95 and entropy weight of 0 are for a reward at every step of one
    training that all networks share; the defaults are for some hundred candidates.
    """

    update: Literal["reinforce", "ppo"] = "reinforce"
    rate: float = 0.2
    momentum: float = 0.0
    baseline: float = 0.9
    entropy: float = 0.05
    batch: int = 1
    epochs: int = 4
    clip: float = 0.2
    redraws: int = 20


class Independent:
    """A policy whose genes know nothing of each other; parameters "logits" (genes, choices) start at 0."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._mask = mask(sizes)
        self.parameters: Arrays = {"logits": np.zeros(self._mask.shape)}

    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """So many genomes, gene by gene."""
        return draw_choices(np.broadcast_to(self._masked(), (count, *self._mask.shape)), random)

    def logits(self, choices: np.ndarray) -> tuple[np.ndarray, None]:
        """The same logits (batch, genes, choices) for all."""
        return np.broadcast_to(self._masked(), (len(choices), *self._mask.shape)), None

    def gradients(self, passed: None, slopes: np.ndarray) -> Arrays:
        """The sum over the batch."""
        return {"logits": slopes.sum(axis=0)}

    def _masked(self) -> np.ndarray:
        return np.where(self._mask, self.parameters["logits"], -np.inf)


@register("logits", "independent logits, policy gradient (TuNAS)", LogitsOptions)
def logits(space: Space, seed: int, options: LogitsOptions) -> PolicySearch:
    """The strategy."""
    policy = Independent([len(gene.choices) for gene in space.genes])
    return PolicySearch(space, policy, np.random.default_rng(seed), options)
