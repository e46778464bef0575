"""Converts a peer with TFLiteConverter: `python peers_worker.py MODULE MODEL SIDE FOLDER`.

It runs in a separate environment, whose Keras may have another version, so it imports nothing of effkeras.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGES = 4


def main(module: str, model: str, side: int, folder: Path) -> None:
    """Writes float32.tflite and int8.tflite."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if not module.startswith("keras.applications"):
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    made = _built(module, model, side)
    for recipe in ("float32", "int8"):
        (folder / f"{recipe}.tflite").write_bytes(_converted(made, recipe, side))


def _built(module: str, model: str, side: int) -> Any:
    make = getattr(importlib.import_module(module), model)
    if module.startswith("keras.applications"):
        import keras

        still = keras.Input(batch_shape=(1, side, side, 3))
        return keras.Model(still, make(weights=None, input_shape=(side, side, 3))(still))
    # pretrained=None would download weights for the backbone.
    return make(input_shape=(side, side, 3), pretrained=False)


def _converted(model: Any, recipe: str, side: int) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if recipe == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _images(side)
    return converter.convert()


def _images(side: int) -> Iterator[list[Any]]:
    import numpy as np

    random = np.random.default_rng(0)
    for _ in range(IMAGES):
        yield [random.uniform(0, 255, (1, side, side, 3)).astype(np.float32)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
