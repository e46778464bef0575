"""A search without networks: a landscape in closed form, evaluators that fail on demand, simple strategies.

Worker processes import it by its name.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from effkeras.search.evaluation.settings import Outcome
from effkeras.search.genomes import Gene, sample
from effkeras.search.trials.job import SearchJob
from effkeras.support.locks import locked


@dataclass(frozen=True)
class FakeSpace:
    """Four genes of six choices; the best genome is (5, 5, 5, 5)."""

    name: str = "fake"
    sizes: tuple[int, ...] = (6, 6, 6, 6)

    @property
    def genes(self):
        return tuple(Gene(f"gene{i}", tuple(range(size))) for i, size in enumerate(self.sizes))

    def canonical(self, genome):
        return genome

    def problem(self, genome):
        return ""


@dataclass(frozen=True)
class Accuracy:
    kind: str = "accuracy"
    cost: str = "macs"
    target: float = 1.0

    def reward(self, accuracy, costs):
        return accuracy

    def problem(self, costs):
        return ""


class Climber:
    """Proposes neighbours of the best that it was told, so that every tell matters; sometimes anything."""

    def __init__(self, space, seed):
        self.space = space
        self.random = np.random.default_rng(seed)
        self.best = None
        self.reward = -math.inf

    def ask(self):
        fresh = sample(self.space, self.random)
        if self.best is None or self.random.random() < 0.3:
            return fresh
        gene = int(self.random.integers(len(fresh)))
        return (*self.best[:gene], fresh[gene], *self.best[gene + 1 :])

    def tell(self, feedback):
        # Every tell moves the generator, so that their order matters too.
        draws = 1 + feedback.ask % 3 + (0 if feedback.reward is None else int(feedback.reward * 100) % 5)
        self.random.random(draws)
        if feedback.reward is not None and feedback.reward > self.reward:
            self.best, self.reward = feedback.genome, feedback.reward


@dataclass(frozen=True)
class Climbing:
    name: str = "climber"
    options: Mapping = field(default_factory=dict)

    def make(self, space, seed):
        return Climber(space, seed)


@dataclass(frozen=True)
class Fake:
    """What evaluations do: the genomes named by their first gene fail in some way.

    `log` gets a line at the start of each evaluation. While there is a folder `gate`, evaluations wait in it.
    """

    seconds: float = 0.0
    crashes: tuple[int, ...] = ()
    nans: tuple[int, ...] = ()
    kills: tuple[int, ...] = ()
    memory: tuple[int, ...] = ()
    steps: int = 0
    log: Path | None = None
    gate: Path | None = None
    broken: str = ""

    def __call__(self):
        if self.broken:
            raise RuntimeError(self.broken)
        return FakeEvaluator(self)


@dataclass(frozen=True)
class FakeEvaluator:
    plan: Fake

    def __call__(self, candidate, report):
        first = candidate.genome[0]
        if self.plan.log:
            with self.plan.log.open("a") as log:
                log.write(f"{candidate.genome}\n")
        if self.plan.gate:
            wait_in(self.plan.gate)
        time.sleep(self.plan.seconds)
        if first in self.plan.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if first in self.plan.memory:
            raise MemoryError
        if first in self.plan.crashes:
            raise ValueError(f"no stage can have\n{first} blocks")
        accuracy = math.nan if first in self.plan.nans else value(candidate.genome)
        for step in range(1, self.plan.steps + 1):
            report(step, accuracy * step / self.plan.steps)
        return Outcome(accuracy, {"seed": float(candidate.seed)})

    def costs(self, candidate):
        return {"macs": float(sum(candidate.genome)), "parameters": 10.0}


def wait_in(gate):
    """Returns when the folder is gone; a lock in it tells meanwhile that this process lives."""
    with contextlib.suppress(FileNotFoundError), locked(gate / str(os.getpid())):
        while gate.exists():
            time.sleep(0.02)


def value(genome):
    return (
        sum(genome) / (5 * len(genome)) * 0.9 + 0.1 * math.cos(sum(i * g for i, g in enumerate(genome))) ** 2
    )


def fake_job(out, **changes):
    plain = {
        "space": FakeSpace(),
        "strategy": Climbing(),
        "objective": Accuracy(),
        "evaluation": Fake(),
        "trials": 20,
        "out": Path(out),
    }
    return SearchJob(**{**plain, **changes})
