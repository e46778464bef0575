"""Converts a Keras model to a float32 .tflite: batch of one, frozen weights, folded batch norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from effkeras.definitions.networks import AUXILIARY
from effkeras.litert.rewriting import name_interface
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import quiet
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    import keras
    import numpy as np

INPUT = "image"


def to_flatbuffer(model: keras.Model, *, skip_normalization: bool = False) -> bytes:
    """Converts a model to a float32 .tflite.

    The signature `serving_default` takes `image`, (1, H, W, 3), and returns the outputs by name: a
    detector's `class_logits`, `box_deltas` and `mask_logits`, a classifier's output layer. Input and output
    tensors have the same names. A model with another dtype policy is converted with float32 arithmetic.

    The converter gets the traced function with frozen weights, not a SavedModel: the operators are the same,
    in a third of the time. The signature, which this omits, is written afterwards.

    Args:
        model: a functional model with one input of fixed size.
        skip_normalization: leave out the first layer, `effkeras.layers.Normalize`; the .tflite then
            takes normalised pixels.

    Raises:
        EffkerasError: the input size is not fixed, or there is no normalisation to leave out.
    """
    if skip_normalization:
        model = without_normalization(_float32(model))
    with quiet():
        import tensorflow as tf

        traced, names = traced_call(model)
        converted = tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert()
    return name_interface(converted, [INPUT], names)


def traced_call(model: keras.Model) -> tuple[Any, list[str]]:
    """The model as a concrete function with frozen weights for the converter, and the names of its outputs.

    It takes one image, (1, H, W, C), and computes in float32. Raises EffkerasError like `to_flatbuffer`.
    """
    need_tensorflow("the conversion to .tflite")
    import tensorflow as tf

    model = _float32(model)
    names = output_names(model)
    signature = [tf.TensorSpec(_static_shape(model), tf.float32, name=INPUT)]
    traced = tf.function(_flat_call(model, names), input_signature=signature, autograph=False)
    return traced.get_concrete_function(), names


def plain_int8(converter: Any, images: Sequence[np.ndarray]) -> bytes:
    """TensorFlow's own full int8 quantization, without effkeras' methods.

    Args:
        converter: a TFLiteConverter; by default it keeps float32 inputs and outputs.
        images: the representative dataset, float32 (1, H, W, C) each.
    """
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([one] for one in images)
    return bytes(converter.convert())


def output_names(model: keras.Model) -> list[str]:
    """Names of the outputs: a detector's dict keys, sorted, or the output layers of other models.

    Auxiliary heads are left out: only training uses them.
    """
    from effkeras.graph.functional import output_structure

    structure = output_structure(model)
    if not isinstance(structure, dict):
        return list(getattr(model, "_functional", model).output_names)
    return sorted(name for name in structure if name != AUXILIARY)


def without_normalization(model: keras.Model) -> keras.Model:
    """The part of the model after its `Normalize` layer; it shares all weights."""
    import keras

    from effkeras.graph.functional import output_structure
    from effkeras.layers import Normalize

    first = next((layer for layer in model.layers if isinstance(layer, Normalize)), None)
    if first is None:
        raise EffkerasError(f"the model {model.name!r} does not start with effkeras.layers.Normalize")
    return keras.Model(first.output, output_structure(model), name=model.name)


def _static_shape(model: keras.Model) -> tuple[int, ...]:
    shape = tuple(model.inputs[0].shape[1:])
    if len(model.inputs) != 1 or None in shape:
        raise EffkerasError(
            f"the model {model.name!r} takes {[tuple(x.shape) for x in model.inputs]}; "
            "build it with one input of fixed height and width"
        )
    return (1, *shape)


def _float32(model: keras.Model) -> keras.Model:
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    import keras

    def in_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=in_float32)
    copy.set_weights(model.get_weights())
    return copy


def _flat_call(model: keras.Model, names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The model as a function of one tensor that returns a tuple of outputs in the order of `names`."""

    def call(image: Any) -> tuple[Any, ...]:
        outputs = model(image, training=False)
        if isinstance(outputs, dict):
            return tuple(outputs[name] for name in names)
        return tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)

    return call
