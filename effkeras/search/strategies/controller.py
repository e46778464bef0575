"""NASNet's controller: an LSTM that writes the genome choice by choice (Zoph et al., arXiv:1707.07012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.search.genomes import Space
from effkeras.search.strategies.lstm import Lstm
from effkeras.search.strategies.policy_search import Learning, PolicySearch


@dataclass(frozen=True, slots=True)
class ControllerOptions(Learning):
    """See `Learning`; `units` is the width of the LSTM and of its embeddings.

    The paper's controller (100 units, PPO with a rate of 3.5e-4, entropy weight 1e-5, baseline 0.95) learned
    from 20,000 networks; the defaults are for some hundred.
    """

    update: Literal["reinforce", "ppo"] = "reinforce"
    rate: float = 0.05
    momentum: float = 0.0
    baseline: float = 0.9
    entropy: float = 0.1
    batch: int = 1
    epochs: int = 4
    clip: float = 0.2
    redraws: int = 20
    units: int = 16

    def __post_init__(self) -> None:
        Learning.__post_init__(self)  # super() knows nothing of the class that slots=True makes
        if self.units < 1:
            raise EffkerasError(f"the option units must be 1 or more, not {self.units}")


def controller(space: Space, seed: int, options: ControllerOptions) -> PolicySearch:
    """The strategy."""
    random = np.random.default_rng(seed)
    policy = Lstm([len(gene.choices) for gene in space.genes], options.units, random)
    return PolicySearch(space, policy, random, options)
