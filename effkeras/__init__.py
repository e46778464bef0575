"""EfficientNet and EfficientDet in Keras 3: build, train, compress, export, measure.

`build`, `load`, `spec`, `list_models`, `compound` and `Regularization` are the public API of the top level.
Importing the package loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    from effkeras.building.models import build
    from effkeras.definitions.changes import Regularization
    from effkeras.definitions.scaling import compound
    from effkeras.definitions.zoo import list_models, spec
    from effkeras.weights.keras_files import load

__version__ = "0.2.0"
__all__ = ["EffkerasError", "Regularization", "build", "compound", "list_models", "load", "spec"]

_HOMES = {
    "build": "effkeras.building.models",
    "load": "effkeras.weights.keras_files",
    "spec": "effkeras.definitions.zoo",
    "list_models": "effkeras.definitions.zoo",
    "compound": "effkeras.definitions.scaling",
    "Regularization": "effkeras.definitions.changes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'effkeras' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
