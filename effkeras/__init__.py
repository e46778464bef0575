"""EfficientNet and EfficientDet in Keras 3: built, trained, compressed, exported, measured.

`build`, `load`, `spec`, `list_models`, `compound` and `Regularization` are the whole public surface of the
top level. Importing the package loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effkeras.errors import EffkerasError

if TYPE_CHECKING:
    from effkeras.checkpoints.keras_files import load
    from effkeras.models import build
    from effkeras.regularization import Regularization
    from effkeras.scaling import compound
    from effkeras.zoo import list_models, spec

__version__ = "0.1.0"
__all__ = ["EffkerasError", "Regularization", "build", "compound", "list_models", "load", "spec"]

_HOMES = {
    "build": "effkeras.models",
    "load": "effkeras.checkpoints.keras_files",
    "spec": "effkeras.zoo",
    "list_models": "effkeras.zoo",
    "compound": "effkeras.scaling",
    "Regularization": "effkeras.regularization",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'effkeras' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
