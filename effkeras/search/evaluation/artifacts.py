"""The .tflite of a definition with random weights: as large and as fast as a trained one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from effkeras.building.models import build_spec
from effkeras.definitions.definition import ModelSpec
from effkeras.litert.convert import INPUT, plain_int8, to_flatbuffer, traced_call
from effkeras.litert.flatbuffer import name_interface
from effkeras.litert.latency import Plan, Setting, measure_all
from effkeras.search.evaluation.settings import ArtifactSettings
from effkeras.support.quiet import quiet

Precision = Literal["float32", "int8"]


def artifact_of(spec: ModelSpec, precision: Precision) -> bytes:
    """Builds a model and converts it; the same file for the same definition.

    Raises EffkerasError for a definition that cannot be built.
    """
    keras.utils.set_random_seed(0)
    return converted(build_spec(spec), precision)


def converted(model: keras.Model, precision: Precision) -> bytes:
    """A .tflite of a model; "int8", its edges too, is calibrated on noise: that changes no size."""
    return to_flatbuffer(model) if precision == "float32" else _int8(model)


def median_ms(flatbuffers: Sequence[bytes], settings: ArtifactSettings) -> list[float]:
    """The median milliseconds of one inference by XNNPACK of each file, taking turns."""
    setting = Setting(xnnpack=True, threads=settings.threads)
    plan = Plan(settings.runs, max(1, settings.runs // 5))
    return [one.median_ms for one in measure_all([(file, setting) for file in flatbuffers], plan)]


def _int8(model: keras.Model) -> bytes:
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about statistics of another way of calibrating
        traced, names = traced_call(model)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
        converter.inference_input_type = converter.inference_output_type = tf.int8
        content = plain_int8(converter, _noise(model.input_shape[1:]))
    return name_interface(content, [INPUT], names)


def _noise(shape: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(0, 255, (1, *shape)).astype(np.float32) for _ in range(2)]
