"""Loads weights into another model than the one they were saved from.

A classifier's weights load into the backbone of a detector. A class predictor gets the weights of the
classes that both models name. Published classifiers of 1,000 classes bring ImageNet's names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from effkeras.data.classes import class_keys
from effkeras.definitions import imagenet, zoo
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
    classifiers = _as_classifier(source, path, spec, padding)
    return (source, False) if classifiers is None else (classifiers, True)


def _has_countable_backbone(spec: ModelSpec) -> bool:
    return spec.is_detector and not spec.network.needs_keras


def _holds_any(source: Source, spec: ModelSpec) -> bool:
    """Whether the source has any weight of the detector's pyramid or heads."""
    backbone = backbone_layers(spec)
    return any(source.find(one) is not None for one in _wanted(spec) if one.layer not in backbone)


def _as_classifier(source: Source, path: Path, spec: ModelSpec, padding: Padding | None) -> Source | None:
    """Opens the file as a classifier on the detector's backbone; None if the weights do not fit it."""
    try:
        classifier = _classifier(spec, source.spec)
        backbone, wanted = backbone_layers(spec), list(_wanted(classifier))
    except EffkerasError:
        return None
    if source.spec is None:  # other formats have other names for a classifier's weights
        source = open_source(path, classifier, padding)
    is_whole = all(source.find(one) is not None for one in wanted if one.layer in backbone)
    return source if is_whole and not source.unused_names(set(map(source.name, wanted))) else None


def _classifier(spec: ModelSpec, stored: ModelSpec | None) -> ModelSpec:
    """The classifier whose weights a detector may get: the one stored in the file, or the zoo's.

    Raises EffkerasError if the file holds a detector, or the zoo has no classifier on this backbone.
    """
    if stored is None:
        return zoo.spec(spec.backbone).replace(network=spec.network)
    if stored.is_detector:
        raise EffkerasError(f"{stored.name} is a detector")
    return stored


def _wanted(spec: ModelSpec) -> Iterator[ModelWeight]:
    """Every weight of a definition's model, without building it."""
    positions: dict[str, int] = {}
    for layer, weight in weight_shapes(spec):
        position = positions.get(layer, 0)
        positions[layer] = position + 1
        yield ModelWeight(layer, weight, position)


class WithoutBackground:
    """A classifier's weights without its first class, the background."""

    def __init__(self, source: Source):
        self.kind = source.kind
        self.requirements = source.requirements
        self.optional = source.optional
        self.spec = source.spec
        self.is_own = source.is_own
        self.name = source.name
        self.unused_names = source.unused_names
        self._source = source

    def find(self, wanted: ModelWeight) -> np.ndarray | None:
        """The weight as the file has it; of the last layer, the values of the other classes."""
        value = self._source.find(wanted)
        return value[..., 1:] if value is not None and wanted.layer == _LOGITS else value


def class_count(source: Source, spec: ModelSpec) -> int | None:
    """The number of classes that weights predict; None if they have no class predictor."""
    if spec.anchors is None:
        value, each = source.find(ModelWeight(_LOGITS, "kernel", 0)), 1
    else:
        value, each = source.find(ModelWeight(_BOXES, "pointwise_kernel", 1)), spec.anchors.per_location
    return None if value is None else value.shape[-1] // each


def with_class_names(source: Source, spec: ModelSpec) -> tuple[Source, ModelSpec]:
    """The definition with the names of the weights' classes, if it has none; and the weights for it.

    A file of effkeras holds its names. Other classifiers of 1,000 classes, or of 1,001 with the background
    first, are ImageNet's. The background is left out for a definition of 1,000.
    """
    own = source.spec
    if spec.labels:
        return source, spec
    if own is not None and (own.is_detector, own.classes) == (spec.is_detector, spec.classes):
        return source, spec.replace(labels=own.labels, category_ids=spec.category_ids or own.category_ids)
    names = imagenet.class_names(spec.classes)
    if source.is_own or spec.is_detector or not names:
        return source, spec
    count = class_count(source, spec)
    if count == spec.classes:
        return source, spec.replace(labels=names)
    if count == spec.classes + 1 == imagenet.CLASSES + 1:
        return WithoutBackground(source), spec.replace(labels=names)
    return source, spec


_LOGITS, _BOXES = "logits", "class_predict"
_MASKS = "segment_predict"
CLASS_PREDICTORS = (_BOXES, _LOGITS, _MASKS)


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
    places = {name: place for place, name in reversed(list(enumerate(ours)))}
    known = [(places[name], place) for place, name in enumerate(theirs) if name in places]
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
