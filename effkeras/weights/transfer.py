"""Loads weights into another model than the one they were saved from.

A classifier's weights load into the backbone of a detector. A class predictor gets the weights of the
classes that both models name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from effkeras.data.classes import class_keys
from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import backbone_layers, weight_shapes
from effkeras.support.errors import EffkerasError
from effkeras.weights.formats import ModelWeight, Padding, Source, open_source


def open_for(path: Path, spec: ModelSpec, padding: Padding | None = None) -> tuple[Source, bool]:
    """Opens weights for a model; returns True with them if they are a classifier's for a detector's backbone.

    Raises EffkerasError like `open_source`.
    """
    source = open_source(path, spec, padding)
    if not _has_countable_backbone(spec) or _holds_any(source, spec):
        return source, False
    classifiers = _classifiers_source(path, spec, padding)
    return (source, False) if classifiers is None else (classifiers, True)


def _has_countable_backbone(spec: ModelSpec) -> bool:
    return spec.is_detector and not spec.network.needs_keras


def _holds_any(source: Source, spec: ModelSpec) -> bool:
    """Whether the source has any weight of the detector's pyramid or heads."""
    backbone = backbone_layers(spec)
    return any(source.find(one) is not None for one in _wanted(spec) if one.layer not in backbone)


def _classifiers_source(path: Path, spec: ModelSpec, padding: Padding | None) -> Source | None:
    """Opens the file as a classifier on the detector's backbone; None if the weights do not fit it."""
    try:
        classifier = zoo.spec(spec.backbone).replace(network=spec.network)
    except EffkerasError:
        return None  # the zoo has no classifier on this backbone
    source = open_source(path, classifier, padding)
    backbone, wanted = backbone_layers(spec), list(_wanted(classifier))
    is_whole = all(source.find(one) is not None for one in wanted if one.layer in backbone)
    return source if is_whole and not source.unused_names(set(map(source.name, wanted))) else None


def _wanted(spec: ModelSpec) -> Iterator[ModelWeight]:
    """Every weight of a definition's model, without building it."""
    positions: dict[str, int] = {}
    for layer, weight in weight_shapes(spec):
        position = positions.get(layer, 0)
        positions[layer] = position + 1
        yield ModelWeight(layer, weight, position)


_MASKS = "segment_predict"
CLASS_PREDICTORS = ("class_predict", "logits", _MASKS)


def class_names(spec: ModelSpec, layer: str) -> tuple[str, ...]:
    """Names of the classes that a layer predicts; () for other layers and for models without class names."""
    if layer not in CLASS_PREDICTORS or not spec.labels:
        return ()
    return spec.mask_labels if layer == _MASKS else spec.labels


def by_class_name(
    wanted: ModelWeight, value: np.ndarray, start: np.ndarray, names: tuple[Sequence[str], Sequence[str]]
) -> np.ndarray | None:
    """A class predictor's weight, reordered to the classes of another model.

    Args:
        wanted: the weight.
        value: the weight in the file, (..., anchors * classes); a classifier counts as one anchor.
        start: the weight in the model; classes that the file lacks keep its values.
        names: class names of the file and of the model.

    Returns:
        The weight in the shape of `start`; None if the models share no class, or for a mask predictor.
    """
    theirs, ours = map(class_keys, names)
    if theirs == ours and value.shape == start.shape:
        return value
    known = [(ours.index(name), place) for place, name in enumerate(theirs) if name in ours]
    if wanted.layer == _MASKS or not known:
        return None
    old, new = (_apart(array, len(each)) for array, each in zip((value, start), names, strict=True))
    if old is None or new is None or old.shape[:-1] != new.shape[:-1]:
        return None
    mixed = new.copy()
    for place, source in known:
        mixed[..., place] = old[..., source]
    return mixed.reshape(start.shape)


def _apart(array: np.ndarray, classes: int) -> np.ndarray | None:
    """Reshapes (..., anchors * classes) to (..., anchors, classes)."""
    if array.shape[-1] % classes:
        return None
    return array.reshape(*array.shape[:-1], -1, classes)
