"""Keras 3 models in `.keras` files and run folders: loads and saves them, or reads their weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.functional import deep_graphs
from effkeras.layers.batch_norm import use_fused_kernels
from effkeras.layers.normalize import definition_in
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.files import whole_file
from effkeras.weights.formats import ModelWeight, Padding, Requirements
from effkeras.weights.hdf5_safety import check_file


def load(path: str | Path) -> keras.Model:
    """Loads a `.keras` file, or the model of a run folder.

    Raises EffkerasError if there is none, it is corrupt, or its weights refer to another file.
    """
    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise EffkerasError(f"there is no model {file}; give a .keras file or a run folder")
    with _reading(file):
        model = keras.models.load_model(file, compile=False)
    use_fused_kernels(model)
    return model


def load_weights_of(model: keras.Model, file: Path) -> None:
    """Loads the weights of a `.keras` file with the same architecture into a model.

    Raises EffkerasError if the file is missing, corrupt, of another model, or refers to another file.
    """
    with _reading(file):
        model.load_weights(file)


def save(model: keras.Model, path: Path) -> None:
    """Saves a `.keras` file; an interrupted save leaves no partial file."""
    with whole_file(Path(path)) as temporary:
        model.save(temporary)


_MOST_PER_BYTE = 4  # bytes of variables for each byte of weights: they may be stored as float16 or int8
_SLACK = 2**24


@contextlib.contextmanager
def limited_variables(most: int, where: str) -> Iterator[None]:
    """Refuses to create more than `most` bytes of variables, before Keras has allocated them.

    Raises EffkerasError, naming `where`. Keras has no such limit, and creates each variable in one method.
    """
    create = keras.Variable._initialize_with_initializer
    size = 0

    def checked(self: keras.Variable, initializer: Any) -> None:
        nonlocal size
        size += math.prod(self.shape) * 4
        if size > most:
            raise EffkerasError(
                f"{where} is not safe to read: its model has more weights than the file holds"
            )
        create(self, initializer)

    keras.Variable._initialize_with_initializer = checked
    try:
        yield
    finally:
        keras.Variable._initialize_with_initializer = create


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Wraps all of Keras's reading from a file: checks the file first, and explains errors.

    Keras builds the model of the file before it reads the weights: that must not take more memory than they.
    """
    try:
        most = _MOST_PER_BYTE * check_file(file) + _SLACK
        with deep_graphs(), limited_variables(most, str(file)):
            yield
    except EffkerasError:
        raise
    except Exception as error:
        own = error.__cause__ or error.__context__  # Keras wraps some exceptions of a layer's building
        if isinstance(own, EffkerasError):
            raise own from error
        reason = first_line(error)
        raise EffkerasError(f"{file} is corrupt or not a Keras 3 model: {reason}") from error


def open_weights(path: Path, spec: ModelSpec, padding: Padding | None = None) -> KerasSource:
    """Opens the weights of another model, by layer name."""
    return KerasSource(load(path))


def weights_of(model: keras.Model) -> Iterator[tuple[ModelWeight, Any]]:
    """A model's weights with their positions, without the states of random generators."""
    for layer in model.layers:
        own = [variable for variable in layer.weights if "seed_generator" not in variable.path]
        for position, variable in enumerate(own):
            yield ModelWeight(layer.name, variable.name, position), variable


class KerasSource:
    """Another Keras model's weights, by layer name."""

    kind = "Keras 3 model"
    optional: frozenset[str] = frozenset()
    is_own = True

    def __init__(self, model: keras.Model):
        self._values = {f"{wanted.layer}/{wanted.weight}": variable for wanted, variable in weights_of(model)}
        self.spec = definition_in(model)
        self.requirements = Requirements() if self.spec is None else _requirements(self.spec)

    def name(self, wanted: ModelWeight) -> str:
        """Layer name and weight name."""
        return f"{wanted.layer}/{wanted.weight}"

    def find(self, wanted: ModelWeight) -> np.ndarray | None:
        """The weight with the same layer and name."""
        variable = self._values.get(self.name(wanted))
        return None if variable is None else keras.ops.convert_to_numpy(variable)

    def unused_names(self, used: set[str]) -> list[str]:
        """Weights of layers that the model lacks."""
        return [name for name in self._values if name not in used]


def _requirements(spec: ModelSpec) -> Requirements:
    """Preprocessing, padding and epsilon of the model's own definition."""
    own = spec.network.conventions()
    return Requirements(spec.input.mean, spec.input.std, own.padding, own.epsilon)
