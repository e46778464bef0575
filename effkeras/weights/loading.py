"""Loads weights, by name or from a file, into a model, and reports what was not loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from effkeras.definitions.definition import ModelSpec, WeightsSpec
from effkeras.graph.counting import backbone_layers
from effkeras.graph.heads import MASK_PREFIX
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError, printable
from effkeras.weights.cards import locate
from effkeras.weights.formats import ModelWeight, Padding, Requirements, Source, adapted
from effkeras.weights.keras_files import weights_of
from effkeras.weights.transfer import (
    CLASS_PREDICTORS,
    WithoutBackground,
    by_class_name,
    class_count,
    class_names,
    open_for,
    with_class_names,
)

_LISTED = 8
_EXTRA = "extra"
_PYRAMID_AND_HEADS = "pyramid and heads"

logger = logging.getLogger("effkeras")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The number of weights loaded, the names of those skipped, and the file's format."""

    loaded: int
    skipped: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """Opened weights, and the definition adapted to them.

    `spec` has the preprocessing, padding and epsilon that the weights were trained with, and the names of
    their classes if the definition has none. `of_backbone` says that they are a classifier's weights for the
    backbone of a detector.
    """

    source: Source
    spec: ModelSpec
    path: Path
    card: WeightsSpec | None
    of_backbone: bool = False

    @property
    def classes(self) -> int | None:
        """The number of classes that the weights predict; None if they have no predictor for this model."""
        return None if self.of_backbone else class_count(self.source, self.spec)

    def load_into(self, model: keras.Model) -> LoadReport:
        """Copies all weights into a model of `spec`, or none; returns what `load_weights` returns."""
        found = self._find(model)
        texts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in found.problems.items() if names]
        if texts:
            raise EffkerasError(
                f"{self.path} is not a checkpoint of this model; variables {'; '.join(texts)}"
            )
        for what, wanted, own in _differences(self.spec, spec_of(model)):
            raise EffkerasError(
                f"{self.path} was trained with {what} {wanted} where the model has {own}; "
                "build the model with these weights (weights= of effkeras.build), and it follows them"
            )
        return self._assign(found)

    def _find(self, model: keras.Model) -> _Found:
        if not self.of_backbone:
            return _find_all(weights_of(model), self.source, self.spec)
        backbone = backbone_layers(self.spec)
        own = [pair for pair in weights_of(model) if pair[0].layer in backbone]
        found = _find_all(own, self.source, self.spec)
        # `open_for` has checked the other weights of the classifier.
        problems = {kind: names for kind, names in found.problems.items() if kind != _EXTRA}
        return found._replace(problems=problems, skipped=[_PYRAMID_AND_HEADS])

    def _assign(self, found: _Found) -> LoadReport:
        for variable, value in found.values:
            variable.assign(value)
        if self.of_backbone:
            logger.warning(
                "%s is a classifier: the backbone gets its %d weights; %s keep their random start",
                self.path,
                len(found.values),
                _PYRAMID_AND_HEADS,
            )
        elif found.skipped:
            names = ", ".join(found.skipped)
            logger.warning("%s has other classes, or none: %s keeps its random start", self.path, names)
        if isinstance(self.source, WithoutBackground):
            logger.warning("%s has a class for the background, which is left out", self.path)
        if found.renamed:
            logger.warning("%s has other classes; loaded by class name: %s", self.path, _some(found.renamed))
        if found.new:
            logger.warning(
                "%s has no head segment: its %d weights keep their random start", self.path, len(found.new)
            )
        return LoadReport(len(found.values), (*found.skipped, *found.new), self.source.kind)


def open_weights(
    spec: ModelSpec,
    weights: str | Path,
    *,
    padding: Padding | None = None,
    folder: Path | None = None,
) -> Opened:
    """Finds and opens weights for a model that is not built yet.

    Args:
        spec: the model that they are for.
        weights: a name from the definition's `[weights]`, or a file or folder: a `.keras` file, a run folder,
            a TensorFlow checkpoint (prefix or folder; name-based or object-based), Keras weights in HDF5
            (of an effkeras model, or its counterpart in keras.applications), timm's, effdet's or
            EfficientNet-PyTorch's `.safetensors` or `.pth`. A classifier's weights are loaded into the
            backbone of a detector.
        padding: how the network of PyTorch's weights pads, if the file does not state it.
        folder: the folder of a definition outside the zoo.

    Raises:
        EffkerasError: no such weights, an unsafe or unknown format, or a damaged file.
    """
    if not isinstance(weights, str | Path):
        raise EffkerasError(f"weights must be a name or a path, not {type(weights).__name__}")
    found = locate(spec, weights, folder)
    source, of_backbone = open_for(found.path, spec, padding)
    own = source.requirements
    card = found.card or WeightsSpec()
    requirements = Requirements(card.mean or own.mean, card.std or own.std, own.padding, own.epsilon)
    spec = adapted(spec, requirements)
    if not of_backbone:
        source, spec = with_class_names(source, spec)
    return Opened(source, spec, found.path, found.card, of_backbone)


def load_weights(model: keras.Model, weights: str | Path, *, padding: Padding | None = None) -> LoadReport:
    """Loads weights into a model built by effkeras; `open_weights` lists the formats.

    Returns:
        What was loaded. If the class names differ, the class predictor gets the weights of the classes that
        both name. If the file has another number of unnamed classes, or no classifier, the predictor keeps
        its random weights, with a warning. The same holds for a mask head that the file lacks, and for a
        detector's pyramid and heads if the file is a classifier's.

    Raises:
        EffkerasError: as in `open_weights`; weights are missing, extra or of another shape; they were
            trained with other preprocessing than the model's. The model is then unchanged.
    """
    return open_weights(spec_of(model), weights, padding=padding).load_into(model)


def _differences(wanted: ModelSpec, own: ModelSpec) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = [
        ("mean", wanted.input.mean, own.input.mean),
        ("std", wanted.input.std, own.input.std),
    ]
    for what in ("padding", "batch_norm"):
        pairs.append((what, getattr(wanted.network, what, None), getattr(own.network, what, None)))
    return [pair for pair in pairs if not _same(pair[1], pair[2])]


def _same(one: Any, other: Any) -> bool:
    return np.allclose(one, other, rtol=1e-4) if isinstance(one, tuple) else one == other


class _Found(NamedTuple):
    """The weights found in a file for a model, and the problems."""

    values: list[tuple[Any, np.ndarray]]
    skipped: list[str]
    new: list[str]
    renamed: list[str]
    problems: Mapping[str, list[str]]


def _find_all(weights: Iterable[tuple[ModelWeight, Any]], source: Source, spec: ModelSpec) -> _Found:
    weights = list(weights)
    values: list[tuple[Any, np.ndarray]] = []
    used: set[str] = set()
    missing: list[str] = []
    misfit: list[str] = []
    skipped: list[str] = []
    renamed: dict[str, None] = {}
    for wanted, variable in weights:
        value, name = source.find(wanted), source.name(wanted)
        used.add(name)
        theirs, ours = _classes(source.spec, wanted), _classes(spec, wanted)
        if value is None:
            (skipped if wanted.layer in source.optional else missing).append(name)
        elif theirs and ours and theirs != ours:
            mixed = by_class_name(wanted, value, np.asarray(variable), (theirs, ours))
            if mixed is None:
                skipped.append(name)
            else:
                values.append((variable, mixed))
                renamed |= dict.fromkeys(one for one in ours if one in theirs)
        elif tuple(value.shape) == tuple(variable.shape):
            values.append((variable, value))
        elif wanted.layer in CLASS_PREDICTORS:
            skipped.append(name)
        else:
            misfit.append(f"{name} {tuple(value.shape)} where the model has {tuple(variable.shape)}")
    new = _new_head(weights, source, missing)
    missing = [name for name in missing if name not in new]
    problems = {"missing": missing, "of another shape": misfit, _EXTRA: source.unused_names(used)}
    return _Found(values, skipped, new, list(renamed), problems)


def _classes(spec: ModelSpec | None, wanted: ModelWeight) -> tuple[str, ...]:
    """The names of the classes that a weight belongs to; () if it belongs to none or they are unknown."""
    if spec is None or wanted.weight == "depthwise_kernel":
        return ()
    return class_names(spec, wanted.layer)


def _new_head(weights: Iterable[tuple[ModelWeight, Any]], source: Source, missing: list[str]) -> list[str]:
    """The mask head's weights if the source has none of them; the head then keeps its random weights."""
    own = [source.name(wanted) for wanted, _ in weights if wanted.layer.startswith(MASK_PREFIX)]
    return own if set(own) <= set(missing) else []


def _some(names: list[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return printable(", ".join(names[:_LISTED])) + more
