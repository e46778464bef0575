"""Regularisation options: dropout, stochastic depth and DropBlock, which act in training only.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from effkeras.definitions.definition import ModelSpec, whole_number
from effkeras.definitions.networks import DropBlockSpec
from effkeras.definitions.scaling import finite
from effkeras.support.errors import EffkerasError


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
    _check(spec, changes)
    if not changes:
        return spec
    block = changes.get("drop_block")
    if isinstance(block, float):
        own: DropBlockSpec = spec.network.regularizers()["drop_block"]
        changes["drop_block"] = dataclasses.replace(own, keep=block)
    return spec.replace(network=dataclasses.replace(spec.network, **changes))


def _check(spec: ModelSpec, changes: Mapping[str, Any]) -> None:
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
    return {name: _read(name, value) for name, value in fields.items() if value is not None}


def _read(name: str, value: Any) -> float | DropBlockSpec:
    if name != "drop_block" or not isinstance(value, DropBlockSpec):
        return finite(name, value)
    size = whole_number(value.size)
    if size is None:
        raise EffkerasError(f"drop_block.size must be a whole number, not {value.size!r}")
    return DropBlockSpec(finite("drop_block.keep", value.keep), size)
