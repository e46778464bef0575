"""Weights of a Keras 3 model: a `.keras` file or a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from effkeras.checkpoints.sources import Demands, Padding, Wanted
from effkeras.definition import ModelSpec
from effkeras.external import definition_in
from effkeras.models import load


def open_weights(path: Path, spec: ModelSpec, padding: Padding | None = None) -> KerasSource:
    """The weights of another model, by layer name."""
    return KerasSource(load(path))


def weights_of(model: keras.Model) -> Iterator[tuple[Wanted, Any]]:
    """A model's weights with their places; the state of random generators is none."""
    for layer in model.layers:
        own = [variable for variable in layer.weights if "seed_generator" not in variable.path]
        for position, variable in enumerate(own):
            yield Wanted(layer.name, variable.name, position), variable


class KerasSource:
    """Another Keras model's weights, by layer name."""

    kind = "Keras 3 model"
    optional: frozenset[str] = frozenset()

    def __init__(self, model: keras.Model):
        self._values = {f"{wanted.layer}/{wanted.weight}": variable for wanted, variable in weights_of(model)}
        self.spec = definition_in(model)
        self.demands = Demands() if self.spec is None else _demands(self.spec)

    def name(self, wanted: Wanted) -> str:
        """Layer and weight."""
        return f"{wanted.layer}/{wanted.weight}"

    def find(self, wanted: Wanted) -> np.ndarray | None:
        """The weight of the same layer and name."""
        variable = self._values.get(self.name(wanted))
        return None if variable is None else keras.ops.convert_to_numpy(variable)

    def leftovers(self, used: set[str]) -> list[str]:
        """Weights of layers that the model has not."""
        return [name for name in self._values if name not in used]


def _demands(spec: ModelSpec) -> Demands:
    """Preprocessing, padding and epsilon of the model's own definition."""
    own = spec.network.conventions()
    return Demands(spec.input.mean, spec.input.std, own.padding, own.epsilon)
