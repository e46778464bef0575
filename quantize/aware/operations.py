"""How int8 treats each operation of a Keras graph; the table is `operations.toml`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import keras

from effkeras.support.tables import Table, read_toml

FILE = Path(__file__).with_name("operations.toml")

Role = Literal["input", "passes", "keeps", "averages", "computes", "unknown"]

_RELUS = {None: "relu", 6.0: "relu6"}


def role_of(operation: Any) -> Role:
    """How int8 treats an operation; "unknown" operations compute in float."""
    if isinstance(operation, keras.layers.InputLayer):
        return "input"
    kind = activation_of(operation)
    if kind is not None:
        return _activation_role(kind)
    name = class_name(operation)
    for role in ("passes", "keeps", "averages", "computes"):
        if name in _known()[role]:
            return role  # type: ignore[return-value]
    return "unknown"


def activation_of(operation: Any) -> str | None:
    """Keras' name of the activation function, if the operation is an activation; else None."""
    if isinstance(operation, keras.layers.Activation):
        return activation_name(operation.activation)
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return _RELUS.get(operation.max_value, "clipped_relu") if plain else "leaky_relu"
    return _known()["names"].get(class_name(operation))


def activation_name(function: Any) -> str:
    """Keras' name of an activation function: "linear", "silu" for swish, ...; "unknown" if custom."""
    if function is None:
        return "linear"
    name = keras.activations.serialize(function)
    return name if isinstance(name, str) else "unknown"


def is_prologue(operation: Any) -> bool:
    """Whether an operation at the start of the network only rescales pixels."""
    return class_name(operation) in _known()["prologue"]


def class_name(operation: Any) -> str:
    """The name of a class of Keras or effkeras; "" for custom classes, which may compute anything."""
    owner = type(operation).__module__.partition(".")[0]
    return type(operation).__name__ if owner in ("keras", "effkeras") else ""


def _activation_role(kind: str) -> Role:
    if kind == "linear":
        return "passes"
    return "computes" if kind in _known()["activations"] else "unknown"


@functools.cache
def _known() -> Table:
    return read_toml(FILE)
