"""When pruning masks change during a training, and how sparse they are then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quantize.specs import PruneSpec


@dataclass(frozen=True, slots=True)
class Schedule:
    """Polynomial growth of the sparsity (Zhu & Gupta 2017, arXiv:1710.01878, equation 1).

    From step `begin` to step `end`, every `every` steps, the sparsity is

        final + (start - final) * (1 - (step - begin) / (end - begin)) ** power

    in float32. Steps count from 1. With `start` equal to `final` it is constant. The same as
    PolynomialDecay and ConstantSparsity of tensorflow-model-optimization.
    """

    start: float
    final: float
    begin: int
    end: int
    every: int = 1
    power: float = 3.0

    @classmethod
    def of(cls, spec: PruneSpec, steps: int) -> Schedule:
        """The schedule for a training of `steps` steps.

        The last change is made at a whole number of `every` steps after `begin`, at full sparsity: a
        schedule that ended between two changes would stay below it.
        """
        begin = min(steps, max(1, round(spec.begin * steps)))
        length = max(0, round(spec.end * steps) - begin)
        every = min(spec.every, max(1, length))
        start = spec.start if spec.schedule == "polynomial" else spec.sparsity
        return cls(start, spec.sparsity, begin, begin + length // every * every, every, spec.power)

    @classmethod
    def once(cls, spec: PruneSpec, steps: int) -> Schedule:
        """A schedule with one change, at full sparsity."""
        begin = min(steps, max(1, round(spec.begin * steps)))
        return cls(spec.sparsity, spec.sparsity, begin, begin)

    def is_turn(self, step: int) -> bool:
        """Whether masks change at this step, before its forward pass."""
        return self.begin <= step <= self.end and (step - self.begin) % self.every == 0

    def sparsity(self, step: int) -> float:
        """The share of zeros at a step."""
        one = np.float32(1)
        left = (one - self._progress(step)) ** np.float32(self.power)
        return float(np.float32(self.start - self.final) * left + np.float32(self.final))

    def _progress(self, step: int) -> np.float32:
        if self.end <= self.begin:
            return np.float32(step >= self.begin)
        share = np.float32(step - self.begin) / np.float32(self.end - self.begin)
        return np.clip(share, np.float32(0), np.float32(1))
