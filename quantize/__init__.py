"""The compression pipeline: from a Keras model to a smaller model and a smaller artifact.

`compress` carries out a whole recipe. The other functions are its steps: each takes a model and gives a new
one with a report; `ptq` gives the `.tflite`. Importing the package loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantize.channels import prune_channels
    from quantize.clustering import cluster
    from quantize.compress import compress
    from quantize.distillation import distill
    from quantize.equalization import equalize
    from quantize.folding import fold
    from quantize.friendly import friendly
    from quantize.mixed import mixed_precision
    from quantize.post_training import ptq
    from quantize.pruning import prune
    from quantize.quantization_aware import qat
    from quantize.recipes import find as recipe
    from quantize.sensitivity import sensitivity

__all__ = [
    "cluster",
    "compress",
    "distill",
    "equalize",
    "fold",
    "friendly",
    "mixed_precision",
    "prune",
    "prune_channels",
    "ptq",
    "qat",
    "recipe",
    "sensitivity",
]

_HOMES = {
    "cluster": ("quantize.clustering", "cluster"),
    "compress": ("quantize.compress", "compress"),
    "distill": ("quantize.distillation", "distill"),
    "equalize": ("quantize.equalization", "equalize"),
    "fold": ("quantize.folding", "fold"),
    "friendly": ("quantize.friendly", "friendly"),
    "mixed_precision": ("quantize.mixed", "mixed_precision"),
    "prune": ("quantize.pruning", "prune"),
    "prune_channels": ("quantize.channels", "prune_channels"),
    "ptq": ("quantize.post_training", "ptq"),
    "qat": ("quantize.quantization_aware", "qat"),
    "recipe": ("quantize.recipes", "find"),
    "sensitivity": ("quantize.sensitivity", "sensitivity"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quantize' has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
