"""A classifier's weights in a detector: they are those of its backbone, in every format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import backbone_layers, weight_shapes
from effkeras.support.errors import EffkerasError
from effkeras.weights.sources import Padding, Source, Wanted, open_source


def open_for(path: Path, spec: ModelSpec, padding: Padding | None = None) -> tuple[Source, bool]:
    """Opens weights for a model, and says whether they are a classifier's and the model a detector on it.

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
    """Whether there is any weight of the detector's pyramid or heads."""
    backbone = backbone_layers(spec)
    return any(source.find(one) is not None for one in _wanted(spec) if one.layer not in backbone)


def _classifiers_source(path: Path, spec: ModelSpec, padding: Padding | None) -> Source | None:
    """The file as the classifier's on the detector's backbone; None when it is none."""
    try:
        classifier = zoo.spec(spec.backbone).replace(network=spec.network)
    except EffkerasError:
        return None  # a backbone of its own: no classifier is made of it
    source = open_source(path, classifier, padding)
    backbone, wanted = backbone_layers(spec), list(_wanted(classifier))
    is_whole = all(source.find(one) is not None for one in wanted if one.layer in backbone)
    return source if is_whole and not source.leftovers(set(map(source.name, wanted))) else None


def _wanted(spec: ModelSpec) -> Iterator[Wanted]:
    """Every weight of a definition's model, without building it."""
    positions: dict[str, int] = {}
    for layer, weight in weight_shapes(spec):
        position = positions.get(layer, 0)
        positions[layer] = position + 1
        yield Wanted(layer, weight, position)
