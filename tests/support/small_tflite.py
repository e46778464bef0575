"""A small int8 .tflite with everything that ours carry."""

from __future__ import annotations

import dataclasses
import functools

from effkeras.building.models import build_spec
from export.metadata import attach, of_classifier
from quantize.formats import IoType, find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels
from support.tiny import random_images, tiny_classifier


@functools.cache
def small_tflite(io: IoType = "int8") -> bytes:
    """An int8 classifier of a few kilobytes with definition, recipe, metadata and labels."""
    spec = tiny_classifier()
    network = dataclasses.replace(spec.network, blocks=spec.network.blocks[:1], head=16)
    spec = dataclasses.replace(spec, network=network)
    options = PtqOptions(find("int8"), io)
    made = quantize_pixels(float_parts(build_spec(spec), options), options, random_images(4, 32)[:, None])
    return attach(made.flatbuffer, of_classifier(spec, [f"class {i}" for i in range(10)], made.flatbuffer))
