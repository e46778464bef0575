"""Keras's own augmentation layers: they change images by transformations that are drawn from our seeds."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@functools.cache
def keras_layer(name: str) -> keras.Layer:
    """The layer of that name in `keras.layers`, with its default arguments.

    Only `transform_images` and `transform_labels` of it are used, which take a transformation. A layer holds
    a variable for seeds of its own, which cannot be made while TensorFlow traces a pipeline; another thread
    traces nothing.
    """

    def make() -> Any:
        import keras

        return getattr(keras.layers, name)()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()
