"""The compression pipeline: from a Keras model to a smaller artifact.

`recipe` looks up a recipe by name; `ptq` quantizes a trained model by it. The other functions are the steps
before: each takes a model and gives a new one with a report. Importing the package loads neither TensorFlow
nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantize.clustering import cluster
    from quantize.folding import fold
    from quantize.post_training import ptq
    from quantize.pruning import prune
    from quantize.recipes import find as recipe

__all__ = ["cluster", "fold", "prune", "ptq", "recipe"]

_HOMES = {
    "cluster": ("quantize.clustering", "cluster"),
    "fold": ("quantize.folding", "fold"),
    "prune": ("quantize.pruning", "prune"),
    "ptq": ("quantize.post_training", "ptq"),
    "recipe": ("quantize.recipes", "find"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quantize' has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
