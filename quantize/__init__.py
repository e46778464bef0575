"""The compression pipeline: from a Keras model to a smaller model and a smaller artifact.

`compress` runs a whole recipe. The other functions are single steps: each takes a model and returns a new
one with a report; `ptq` returns the `.tflite`. Importing the package loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantize.aware.quantization_aware import qat
    from quantize.channels.pruning import prune_channels
    from quantize.compression import compress
    from quantize.distillation import distill
    from quantize.formats import find as recipe
    from quantize.magnitude.clustering import cluster
    from quantize.magnitude.pruning import prune
    from quantize.post_training.equalization import equalize
    from quantize.post_training.quantization import ptq
    from quantize.precision.mixed import mixed_precision
    from quantize.precision.sensitivity import sensitivity
    from quantize.rewriting.folding import fold
    from quantize.rewriting.friendly import friendly

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
    "cluster": ("quantize.magnitude.clustering", "cluster"),
    "compress": ("quantize.compression", "compress"),
    "distill": ("quantize.distillation", "distill"),
    "equalize": ("quantize.post_training.equalization", "equalize"),
    "fold": ("quantize.rewriting.folding", "fold"),
    "friendly": ("quantize.rewriting.friendly", "friendly"),
    "mixed_precision": ("quantize.precision.mixed", "mixed_precision"),
    "prune": ("quantize.magnitude.pruning", "prune"),
    "prune_channels": ("quantize.channels.pruning", "prune_channels"),
    "ptq": ("quantize.post_training.quantization", "ptq"),
    "qat": ("quantize.aware.quantization_aware", "qat"),
    "recipe": ("quantize.formats", "find"),
    "sensitivity": ("quantize.precision.sensitivity", "sensitivity"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quantize' has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
