"""Fake-quantized models that several tests share."""

from __future__ import annotations

import functools

import keras
import numpy as np

from effkeras.layers.fake_quant_kernels import FakeQuantKernel
from quantize import qat
from quantize.report import Compressed
from quantize.specs import QatSpec
from support import small_nets
from support.tiny_models import random_images, tiny_model


@functools.cache
def prepared(name: str) -> Compressed:
    return qat(tiny_model(name), random_images(8))


def small(spec: QatSpec | None = None, model: keras.Model | None = None) -> Compressed:
    return qat(model or small_nets.two_heads(), small_nets.examples()[0], spec)


def kernels(model: keras.Model) -> dict[str, FakeQuantKernel]:
    return {layer.name: layer for layer in model.layers if isinstance(layer, FakeQuantKernel)}


def numbers(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)
