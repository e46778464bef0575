"""Search by policy gradient: draws genomes from a policy and raises the probability of good ones.

The strategy `logits` learns a softmax per gene (TuNAS, arXiv:2008.06120); `controller` has an LSTM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effkeras.search.genomes import Genome, Space, sample
from effkeras.search.strategies.policies import (
    FAILED,
    Adam,
    Arrays,
    Baseline,
    Drawn,
    Policy,
    draw_choices,
    log_softmax,
    mask,
    of_choices,
    slopes,
)
from effkeras.search.strategies.strategy import Feedback, ProposedGenomes, register
from effkeras.support.errors import EffkerasError

# Genomes drawn in one pass, and passes without a valid one until a genome is drawn uniformly.
_TOGETHER = 8
_PASSES = 16


@dataclass(frozen=True, slots=True)
class Learning:
    """How a policy learns from results.

    `update` is REINFORCE or PPO. An update uses `batch` results; `rate` and `momentum` (beta1) are Adam's.
    The baseline is a moving average of rewards with decay rate `baseline`. `entropy` is the weight of the
    entropy bonus. PPO makes `epochs` steps per batch, with ratios clipped to 1 -+ `clip`. A genome that was
    proposed before is redrawn up to `redraws` times.
    """

    update: Literal["reinforce", "ppo"]
    rate: float
    momentum: float
    baseline: float
    entropy: float
    batch: int
    epochs: int
    clip: float
    redraws: int

    def __post_init__(self) -> None:
        bounds = {
            "rate": (self.rate > 0, "above 0"),
            "momentum": (0 <= self.momentum < 1, "from 0 to below 1"),
            "baseline": (0 <= self.baseline < 1, "from 0 to below 1"),
            "entropy": (self.entropy >= 0, "0 or more"),
            "batch": (self.batch >= 1, "1 or more"),
            "epochs": (self.epochs >= 1, "1 or more"),
            "clip": (self.clip > 0, "above 0"),
            "redraws": (self.redraws >= 0, "0 or more"),
        }
        for name, (is_right, wanted) in bounds.items():
            if not is_right:
                raise EffkerasError(f"the option {name} must be {wanted}, not {getattr(self, name)}")


class PolicySearch:
    """A strategy that learns any policy; any number of proposals may be running at once.

    - The policy learns from the genome that it drew, not from its canonical form: a policy gradient needs
      the choices that were made, and the canonical ones might have been improbable.
    - REINFORCE uses the gradient of the current policy; PPO weighs it by the ratio of the current
      probability to that at the time of the draw.
    - A failed candidate has a fixed, negative advantage, so that the policy learns to avoid similar ones on
      any scale of rewards; it does not change the baseline.
    - Advantages are in units of the rewards' moving standard deviation, so learning does not depend on the
      scale of the rewards.
    - Results of other proposals are ignored.
    """

    def __init__(self, space: Space, policy: Policy, random: np.random.Generator, learning: Learning) -> None:
        self._space, self._policy, self._random, self._learning = space, policy, random, learning
        self._proposed = ProposedGenomes(space, random)
        self._adam = Adam(learning.rate, learning.momentum)
        self._baseline = Baseline(learning.baseline)
        self._under_way: dict[int, Drawn] = {}
        self._asked = 0
        self._batch: list[tuple[Drawn, float]] = []

    def ask(self) -> Genome:
        """A genome drawn from the policy: a new one, unless all redraws were proposed before."""
        drawn = self._draw()
        self._under_way[self._asked] = drawn
        self._asked += 1
        return self._proposed.add(self._space.canonical(_genome(drawn.choices)))

    def tell(self, feedback: Feedback) -> None:
        """Adds the result to the batch, and updates the policy when the batch is full."""
        draw = self._under_way.pop(feedback.ask, None)
        if draw is None:
            return
        advantage = FAILED if feedback.reward is None else self._baseline.advantage(feedback.reward)
        self._batch.append((draw, advantage))
        if len(self._batch) == self._learning.batch:
            self._learn()
            self._batch = []

    def _draw(self) -> Drawn:
        """The first new genome, or another valid draw when all redraws were proposed before."""
        valid = self._valid()
        for _ in range(self._learning.redraws):
            drawn = next(valid)
            if self._space.canonical(_genome(drawn.choices)) not in self._proposed:
                return drawn
        return next(valid)

    def _valid(self) -> Iterator[Drawn]:
        """Valid draws of the policy; if it finds none, one genome drawn uniformly, again and again."""
        misses = 0
        while misses < _PASSES:
            drawn = self._policy.draw(self._random, _TOGETHER)
            misses += 1
            for choices, logs in zip(drawn.choices, drawn.logs, strict=True):
                if not self._space.problem(_genome(choices)):
                    misses = 0
                    yield Drawn(choices, logs)
        choices = np.array(sample(self._space, self._random))
        logits, _ = self._policy.logits(choices[None])
        while True:
            yield Drawn(choices, of_choices(log_softmax(logits), choices[None])[0])

    def _learn(self) -> None:
        draws, advantages = zip(*self._batch, strict=True)
        choices = np.array([draw.choices for draw in draws])
        then = np.stack([draw.logs for draw in draws])
        for _ in range(self._learning.epochs if self._learning.update == "ppo" else 1):
            logits, passed = self._policy.logits(choices)
            now = of_choices(log_softmax(logits), choices)
            weights = self._weights(np.array(advantages)[:, None], now, then)
            gradients = self._policy.gradients(
                passed, slopes(logits, choices, weights, self._learning.entropy)
            )
            self._adam.step(self._policy.parameters, gradients)

    def _weights(self, advantages: np.ndarray, now: np.ndarray, then: np.ndarray) -> np.ndarray:
        """The weight of each choice (batch, genes) in the policy gradient."""
        if self._learning.update == "reinforce":
            return np.broadcast_to(advantages, now.shape)
        ratios = np.exp(now - then)
        return advantages * ratios * is_within(ratios, advantages, self._learning.clip)


def _genome(choices: np.ndarray) -> Genome:
    return tuple(map(int, choices))


def is_within(ratios: np.ndarray, advantages: np.ndarray, clip: float) -> np.ndarray:
    """Where PPO's clipped objective has a gradient (Schulman et al., arXiv:1707.06347, equation 7)."""
    return np.where(advantages >= 0, ratios < 1 + clip, ratios > 1 - clip)


@dataclass(frozen=True, slots=True)
class LogitsOptions(Learning):
    """See `Learning`. Adam without momentum is from TuNAS.

    TuNAS' rate of 3e-4, baseline of 0.95 and entropy weight of 0 are for a reward at every step of one
    training that all networks share; the defaults suit a few hundred candidates.
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
    """A policy with independent genes; its parameters "logits" (genes, choices) start at 0."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._mask = mask(sizes)
        self.parameters: Arrays = {"logits": np.zeros(self._mask.shape)}

    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """Draws `count` genomes."""
        return draw_choices(np.broadcast_to(self._masked(), (count, *self._mask.shape)), random)

    def logits(self, choices: np.ndarray) -> tuple[np.ndarray, None]:
        """The logits (batch, genes, choices), equal for all genomes."""
        return np.broadcast_to(self._masked(), (len(choices), *self._mask.shape)), None

    def gradients(self, passed: None, slopes: np.ndarray) -> Arrays:
        """Sums the gradients of the logits over the batch."""
        return {"logits": slopes.sum(axis=0)}

    def _masked(self) -> np.ndarray:
        return np.where(self._mask, self.parameters["logits"], -np.inf)


@register("logits", "independent logits, policy gradient (TuNAS)", LogitsOptions)
def logits(space: Space, seed: int, options: LogitsOptions) -> PolicySearch:
    """Makes the strategy."""
    policy = Independent([len(gene.choices) for gene in space.genes])
    return PolicySearch(space, policy, np.random.default_rng(seed), options)
