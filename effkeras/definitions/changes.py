"""Definitions changed for a model to build: other classes, outputs, input size or regularisers.

Regularisers are dropout, stochastic depth and DropBlock, which act in training only. Nothing here imports
TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from effkeras.definitions.definition import HEADS, ModelSpec
from effkeras.definitions.networks import DropBlockSpec
from effkeras.definitions.scaling import finite
from effkeras.support.errors import EffkerasError, did_you_mean


def with_classes(spec: ModelSpec, classes: int | Sequence[str]) -> ModelSpec:
    """The same model for other classes, given as their number or their names."""
    number = whole_number(classes)
    if number is not None:
        if number == spec.classes:
            return spec
        return spec.replace(classes=number, labels=(), category_ids=())
    labels = tuple(classes) if _is_list(classes) else (None,)  # type: ignore[arg-type]
    if not all(isinstance(label, str) for label in labels):
        raise EffkerasError(f"classes must be a whole number or a list of names, not {classes!r}")
    return spec.replace(classes=len(labels), labels=tuple(map(str, labels)), category_ids=())


def with_heads(spec: ModelSpec, heads: Sequence[str]) -> ModelSpec:
    """The same detector with other outputs: "detect", "segment" or both; the order does not matter."""
    if not spec.is_detector:
        raise EffkerasError(f"{spec.name}: only a detector has heads to choose")
    if not _is_list(heads):
        raise EffkerasError(f"heads must be a list of {' and '.join(HEADS)}, not {heads!r}")
    for head in heads:
        if head not in HEADS:
            raise EffkerasError(f"there is no head {head!r}; {did_you_mean(str(head), HEADS)}")
    if not heads:
        raise EffkerasError(f"a model needs a head; give {' or '.join(HEADS)}")
    chosen = tuple(head for head in HEADS if head in heads)
    return spec.replace(
        heads=() if chosen == ("detect",) else chosen,  # as in a definition without `heads`
        segment=spec.segment if "segment" in chosen else None,
    )


def with_size(spec: ModelSpec, shape: Sequence[int]) -> ModelSpec:
    """The same model for images of (height, width) or (height, width, 3) pixels."""
    sides = tuple(shape) if _is_list(shape) else ()
    height, width, *rest = (*map(whole_number, sides), None, None)[: max(2, len(sides))]
    if height is None or width is None or rest not in ([], [3]):
        raise EffkerasError(
            f"input_shape must be (height, width) or (height, width, 3) in whole pixels, not {shape!r}"
        )
    return spec.replace(input=dataclasses.replace(spec.input, size=(height, width)))


def whole_number(value: Any) -> int | None:
    """A whole number of any type (numpy too) as an int; None for other values, including booleans."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if is_whole else None


def _is_list(value: Any) -> bool:
    """Whether a value has ordered items, such as a numpy array; text does not count."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)


@dataclass(frozen=True, slots=True)
class Regularization:
    """Regularisers that replace those of a definition; None keeps the definition's value.

    Attributes:
        dropout: share of values dropped before a classifier's last layer.
        survival: share of samples that keep the last block's branch; stochastic depth falls linearly from
            1 at the first block (Huang et al. 2016; EfficientNet: 0.8). In a cell network, the share of the
            last cell's operations that drop-path keeps at the end of training (NASNet: 0.6 to 1).
        drop_block: share of values that the last maps of a block network keep at the end of training, or
            a `DropBlockSpec`, which also sets the squares' size (Ghiasi et al. 2018).
    """

    dropout: float | None = None
    survival: float | None = None
    drop_block: float | DropBlockSpec | None = None


def regularized(spec: ModelSpec, options: Regularization) -> ModelSpec:
    """The model with other regularisers.

    Raises EffkerasError for a share outside 0..1, and for a regulariser that the model lacks.
    """
    changes = _given(options)
    _check_regularizers(spec, changes)
    if not changes:
        return spec
    block = changes.get("drop_block")
    if isinstance(block, float):
        own: DropBlockSpec = spec.network.regularizers()["drop_block"]
        changes["drop_block"] = dataclasses.replace(own, keep=block)
    return spec.replace(network=dataclasses.replace(spec.network, **changes))


def _check_regularizers(spec: ModelSpec, changes: Mapping[str, Any]) -> None:
    known = spec.network.regularizers()
    for name in changes:
        if name not in known:
            hint = f"it has {', '.join(known)}" if known else "it has no regularisers"
            raise EffkerasError(f"{spec.name} has no {name} to set; {hint}")
    if "dropout" in changes and spec.is_detector:
        raise EffkerasError(f"dropout lies in a classifier's head, which the detector {spec.name} lacks")


def _given(options: Regularization) -> dict[str, Any]:
    if not isinstance(options, Regularization):
        raise EffkerasError(f"regularize must be an effkeras.Regularization, not {options!r}")
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {name: _read_option(name, value) for name, value in fields.items() if value is not None}


def _read_option(name: str, value: Any) -> float | DropBlockSpec:
    if name != "drop_block" or not isinstance(value, DropBlockSpec):
        return finite(name, value)
    size = whole_number(value.size)
    if size is None:
        raise EffkerasError(f"drop_block.size must be a whole number, not {value.size!r}")
    return DropBlockSpec(finite("drop_block.keep", value.keep), size)
