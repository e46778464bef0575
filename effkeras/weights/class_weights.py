"""Class predictors between models whose classes differ: a class is known by its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.weights.sources import Wanted

_MASKS = "segment_predict"
CLASS_PREDICTORS = ("class_predict", "logits", _MASKS)


def class_names(spec: ModelSpec, layer: str) -> tuple[str, ...]:
    """The names of the classes that a layer has weights for; () for other layers and unknown names."""
    if layer not in CLASS_PREDICTORS or not spec.labels:
        return ()
    return spec.mask_labels if layer == _MASKS else spec.labels


def by_class_name(
    wanted: Wanted, value: np.ndarray, start: np.ndarray, names: tuple[Sequence[str], Sequence[str]]
) -> np.ndarray | None:
    """A class predictor's weight in the classes of another model.

    Args:
        wanted: the weight.
        value: what the file has, (..., anchors * classes): anchors are outer, 1 for a classifier.
        start: what the model has, of which the classes that the file does not know are kept.
        names: the file's classes and the model's.

    Returns:
        The weight in the shape of `start`; None when no class is known, or the weight is a mask predictor's.
    """
    theirs, ours = names
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
    """(..., anchors * classes) as (..., anchors, classes)."""
    if array.shape[-1] % classes:
        return None
    return array.reshape(*array.shape[:-1], -1, classes)
