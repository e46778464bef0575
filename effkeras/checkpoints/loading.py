"""Loads weights into a model, from a name or a file, and says what was not loaded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from effkeras import zoo
from effkeras.checkpoints.official_names import CLASS_PREDICTORS, official_names
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.files import inside
from effkeras.graph.segmentation import PREFIX
from effkeras.models import load, spec_of

EMA_SUFFIX = "/ExponentialMovingAverage"
_SLOTS = ("/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1")
_LISTED = 8

logger = logging.getLogger("effkeras")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a loader did: weights loaded, and layers left as they were, by choice."""

    loaded: int
    skipped: tuple[str, ...] = ()


class _Source(Protocol):
    """A file of weights: each of the model's weights by layer and name, and what else is in it."""

    def find(self, layer: str, weight: str) -> np.ndarray | None: ...

    def name(self, layer: str, weight: str) -> str: ...

    def leftovers(self, used: set[str]) -> list[str]: ...


def load_weights(model: keras.Model, weights: str | Path) -> LoadReport:
    """Loads weights into a model built by effkeras.

    Args:
        model: receives the weights.
        weights: a name from the definition's `[weights]`, a `.keras` or `.weights.h5` file, a run
            folder, or a TensorFlow name-based checkpoint (its prefix, or its folder).

    Returns:
        What was loaded. When the file has another number of classes, the class predictor keeps its
        random start, and a warning says so; so does the mask head when the file has none.

    Raises:
        EffkerasError: no such weights, a corrupt file, or variables missing, extra or of other shape.
    """
    spec = spec_of(model)
    path = _resolve(spec, weights)
    if path.name.endswith(".weights.h5"):
        return _load_h5(model, path)
    is_run = path.is_dir() and (path / "model.keras").is_file()
    if path.suffix == ".keras" or is_run:
        return _copy(model, _KerasSource(load(path), path), path)
    return _copy(model, _CheckpointSource(path, official_names(spec)), path)


def _resolve(spec: ModelSpec, weights: str | Path) -> Path:
    card = spec.weights.get(str(weights))
    if card is None:
        path = Path(weights)
        is_prefix = Path(f"{weights}.index").is_file()
        if not path.exists() and not is_prefix:
            names = ", ".join(spec.weights) or "none"
            raise EffkerasError(
                f"there are no weights {str(weights)!r}: not a file, and {spec.name} knows by name: {names}"
            )
        return path
    if not card.file:
        raise EffkerasError(f"download {card.url} and give its path as weights")
    definition = zoo.definition_path(spec.name)
    if definition is None:
        raise EffkerasError(
            f"{card.file} lies beside the definition of {spec.name}: give its path as weights"
        )
    return inside(definition.parent, card.file)


def _load_h5(model: keras.Model, path: Path) -> LoadReport:
    try:
        model.load_weights(path)
    except Exception as error:
        raise EffkerasError(f"{path} does not fit {model.name}: {_reason(error)}") from error
    return LoadReport(len(model.weights))


def _copy(model: keras.Model, source: _Source, path: Path) -> LoadReport:
    values, used, missing, misfit, skipped = {}, set(), [], [], []
    for layer, variable in _variables(model):
        value = source.find(layer, variable.name)
        name = source.name(layer, variable.name)
        used.add(name)
        if value is None:
            missing.append(name)
        elif tuple(value.shape) == tuple(variable.shape):
            values[id(variable)] = (variable, value)
        elif layer in CLASS_PREDICTORS:
            skipped.append(name)
        else:
            misfit.append(f"{name} {tuple(value.shape)} where the model has {tuple(variable.shape)}")
    new = _new_head(model, source, missing)
    missing = [name for name in missing if name not in new]
    _refuse(path, {"missing": missing, "of another shape": misfit, "extra": source.leftovers(used)})
    for variable, value in values.values():
        variable.assign(value)
    if skipped:
        logger.warning("%s has other classes: %s keeps its random start", path, ", ".join(skipped))
    if new:
        logger.warning("%s has no head segment: its %d weights keep their random start", path, len(new))
    return LoadReport(len(values), (*skipped, *new))


def _new_head(model: keras.Model, source: _Source, missing: list[str]) -> list[str]:
    """The mask head's weights, when the source has none of them: then it is learned anew."""
    own = [source.name(layer, v.name) for layer, v in _variables(model) if layer.startswith(PREFIX)]
    return own if set(own) <= set(missing) else []


def _refuse(path: Path, problems: Mapping[str, list[str]]) -> None:
    texts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if texts:
        raise EffkerasError(f"{path} is not a checkpoint of this model; variables {'; '.join(texts)}")


def _some(names: list[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _variables(model: keras.Model) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        for variable in layer.weights:
            if "seed_generator" not in variable.path:
                yield layer.name, variable


class _KerasSource:
    """Another Keras model's weights, by layer name."""

    def __init__(self, model: keras.Model, path: Path):
        self._values = {(layer, variable.name): variable for layer, variable in _variables(model)}

    def find(self, layer: str, weight: str) -> np.ndarray | None:
        variable = self._values.get((layer, weight))
        return None if variable is None else keras.ops.convert_to_numpy(variable)

    def name(self, layer: str, weight: str) -> str:
        return f"{layer}/{weight}"

    def leftovers(self, used: set[str]) -> list[str]:
        return [f"{layer}/{weight}" for layer, weight in self._values if f"{layer}/{weight}" not in used]


class _CheckpointSource:
    """A TensorFlow name-based checkpoint; averaged twins are preferred, optimizer slots ignored."""

    def __init__(self, path: Path, names: dict[tuple[str, str], str]):
        self._path = path
        self._names = names
        with _reading(path):
            self._reader = _checkpoint_reader(path)
            self._stored = set(self._reader.get_variable_to_shape_map())

    def find(self, layer: str, weight: str) -> np.ndarray | None:
        name = self.name(layer, weight)
        averaged = name + EMA_SUFFIX
        if averaged in self._stored:
            return self._read(averaged)
        return self._read(name) if name in self._stored else None

    def name(self, layer: str, weight: str) -> str:
        return self._names.get((layer, weight), f"{layer}/{weight}")

    def leftovers(self, used: set[str]) -> list[str]:
        return sorted(name for name in self._stored if not self._is_known(name, used))

    def _read(self, name: str) -> np.ndarray:
        with _reading(self._path):
            return self._reader.get_tensor(name)

    def _is_known(self, name: str, used: set[str]) -> bool:
        bare = name.removesuffix(EMA_SUFFIX)
        is_slot = any(bare.endswith(slot) and bare.removesuffix(slot) in used for slot in _SLOTS)
        return bare in used or is_slot or name in ("global_step", "learning_rate")


def _checkpoint_reader(path: Path) -> Any:
    import tensorflow as tf

    prefix = tf.train.latest_checkpoint(str(path)) if path.is_dir() else str(path).removesuffix(".index")
    if prefix is None:
        raise EffkerasError(f"{path} holds no checkpoint: no file `checkpoint` that names one")
    return tf.train.load_checkpoint(prefix)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except EffkerasError:
        raise
    except Exception as error:  # a cut file gives IndexError, a wrong checksum OpError
        raise EffkerasError(f"{path} is not a readable TensorFlow checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
