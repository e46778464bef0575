"""Adam in NumPy (Kingma & Ba, arXiv:1412.6980), for policies that every worker replays without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]

_EPSILON = 1e-8


class Adam:
    """Steps against gradients, each scaled by how large that gradient usually is.

    `momentum` is beta1; beta2 is 0.999.
    """

    def __init__(self, rate: float, momentum: float) -> None:
        self._rate = rate
        self._betas = (momentum, 0.999)
        self._steps = 0
        self._means: Arrays = {}
        self._squares: Arrays = {}

    def step(self, parameters: Arrays, gradients: Mapping[str, np.ndarray]) -> None:
        """Moves the parameters, in place."""
        self._steps += 1
        for name, gradient in gradients.items():
            mean = self._average(self._means, name, gradient, self._betas[0])
            square = self._average(self._squares, name, gradient**2, self._betas[1])
            parameters[name] -= self._rate * mean / (np.sqrt(square) + _EPSILON)

    def _average(self, averages: Arrays, name: str, value: np.ndarray, decay: float) -> np.ndarray:
        averages[name] = decay * averages.get(name, np.zeros_like(value)) + (1 - decay) * value
        return averages[name] / (1 - decay**self._steps)
