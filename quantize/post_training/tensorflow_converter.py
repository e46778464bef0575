"""Quantization by TensorFlow's converter: the other way from a Keras model to a quantized .tflite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.litert.convert import INPUT, traced_call
from effkeras.litert.flatbuffer import name_interface
from effkeras.quiet import quiet
from quantize.recipes import Edges, Recipe
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    import keras

Extent = tuple[float, float]
Inputs = Callable[[], Iterable[np.ndarray]]


def check_can(recipe: Recipe, spec: PtqSpec) -> None:
    """Raises EffkerasError for what this backend cannot do."""
    asked = {
        f"the recipe {recipe.name} (4-bit weights)": recipe.weights == "int4",
        f"ranges by {spec.ranges}": spec.ranges not in ("auto", "minmax"),
        "correct_bias": spec.correct_bias,
    }
    wanted = next((what for what, is_asked in asked.items() if is_asked), None)
    if wanted is not None:
        raise EffkerasError(f"the backend tensorflow cannot do {wanted}; use the backend ai-edge-quantizer")


def quantize(model: keras.Model, recipe: Recipe, io: Edges, inputs: Inputs, extent: Extent | None) -> bytes:
    """Converts and quantizes a model.

    Args:
        model: what is converted, with float32 arithmetic.
        recipe: float16, dynamic, int8 or int16 activations.
        io: number format of the edges; uint8 edges are made of int8 ones afterwards.
        inputs: gives what the model takes, float32 (1, H, W, C) each; called when the recipe needs data.
        extent: what the input can be, lowest and highest; None when that is what `inputs` show.
    """
    with quiet(), warnings.catch_warnings():
        # It expects the input's range where there is a whole data set to measure it on.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        converter, names = _converter(model)
        _set_rules(converter, recipe, io, _shown(inputs, extent))
        converted = converter.convert()
    return name_interface(converted, [INPUT], names)


def _converter(model: keras.Model) -> tuple[Any, list[str]]:
    import tensorflow as tf

    traced, names = traced_call(model)
    return tf.lite.TFLiteConverter.from_concrete_functions([traced]), names


def _set_rules(
    converter: Any, recipe: Recipe, io: Edges, inputs: Callable[[], Iterator[list[np.ndarray]]]
) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if not recipe.needs_data:
        return
    converter.representative_dataset = inputs
    if recipe.activations == "int16":
        ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops]
    if io != "float32":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8


def _shown(inputs: Inputs, extent: Extent | None) -> Callable[[], Iterator[list[np.ndarray]]]:
    """The converter only knows what it is shown, so one picture's corners show the input's extent."""

    def show() -> Iterator[list[np.ndarray]]:
        for position, pixels in enumerate(inputs()):
            if position == 0 and extent is not None:
                pixels = pixels.copy()
                pixels[0, 0, 0], pixels[0, -1, -1] = extent
            yield [np.asarray(pixels, np.float32)]

    return show
