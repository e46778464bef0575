"""Quantization backends: ai-edge-quantizer, and TensorFlow's converter."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.litert.convert import INPUT, traced_call
from effkeras.litert.flatbuffer import Operator
from effkeras.litert.rewriting import name_interface
from effkeras.support.console import quiet
from effkeras.support.errors import EffkerasError
from quantize.formats import Format, IoType
from quantize.post_training.corrections import widened_for_addends, widened_for_biases
from quantize.post_training.ranges import Ranges
from quantize.specs import Precision, PtqSpec

if TYPE_CHECKING:
    import keras


_EVERYWHERE = ".*"
_NORMALIZATION = r"/normalize(_\d+)?/"
_INT4_OPS = ("CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, slots=True)
class Rules:
    """The precision of each operator. Operators are named by their first output tensor.

    The operators `kept` stay at `precision` instead of the recipe's. If `only` is given, only these operators
    follow the recipe, and all others stay in float.
    """

    format: Format
    io: IoType = "float32"
    kept: tuple[str, ...] = ()
    precision: Precision = "float32"
    only: tuple[str, ...] | None = None

    @property
    def most_bits(self) -> int:
        """The largest number of bits of any activation."""
        in_16 = self.format.activations == "int16" or (self.kept and self.precision == "w8a16")
        return 16 if in_16 else 8


def scope_of(op: Operator) -> str:
    """The name of an operator in `Rules`: the name of its first output."""
    return op.outputs[0].name


def quantize_with_ai_edge(flatbuffer: bytes, ranges: Ranges | None, rules: Rules) -> bytes:
    """Quantizes a float .tflite by `rules`; `ranges` are needed where activations are quantized."""
    if rules.format.weights == "float32":
        return flatbuffer
    if ranges is not None:
        if rules.most_bits == 8:
            ranges = widened_for_addends(flatbuffer, ranges)
        ranges = widened_for_biases(flatbuffer, ranges, rules.most_bits)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns about its own use of the interpreter
        tool = _tool(flatbuffer)
        _set_rules(tool, rules)
        result = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _tool(flatbuffer: bytes) -> Any:
    from ai_edge_quantizer import quantizer

    class Quantizer(quantizer.Quantizer):
        def _ensure_model_qsv_sufficient(self, calibration_result: Any) -> None:
            """Skips a check for empty ranges that holds all activations in memory; ours are not empty."""

    return Quantizer(flatbuffer)


def _set_rules(tool: Any, rules: Rules) -> None:
    _follow(tool, rules.format, _EVERYWHERE if rules.only is None else _exactly(rules.only))
    if rules.kept and rules.precision == "w8a16":
        _static(tool, _exactly(rules.kept), bits=(16, 8))
    elif rules.kept and rules.precision == "float32":
        _leave(tool, _exactly(rules.kept), ["*"])
    _leave(tool, _EVERYWHERE, rules.format.float_ops)
    if rules.format.needs_data and rules.io == "float32":
        _leave(tool, _EVERYWHERE, ["INPUT", "OUTPUT", "SOFTMAX"])
        _leave(tool, _NORMALIZATION, ["*"])


def _follow(tool: Any, format_: Format, scope: str) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName

    if format_.weights == "float16":
        cast = AlgorithmName.FLOAT_CASTING
        tool.add_weight_only_config(scope, Op.ALL_SUPPORTED, 16, algorithm_key=cast)
    elif format_.activations == "float32":
        tool.add_dynamic_config(scope, Op.ALL_SUPPORTED, 8)
        for name in _int4_ops(format_):
            tool.add_dynamic_config(scope, Op(name), 4)
    else:
        bits = 16 if format_.activations == "int16" else 8
        _static(tool, scope, bits=(bits, 8))
        for name in _int4_ops(format_):
            tool.add_static_config(scope, Op(name), bits, 4)


def _static(tool: Any, scope: str, bits: tuple[int, int]) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op

    tool.add_static_config(scope, Op.ALL_SUPPORTED, *bits)


def _leave(tool: Any, scope: str, operations: Iterable[str]) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName

    for name in operations:
        tool.update_quantization_recipe(scope, Op(name), algorithm_key=AlgorithmName.NO_QUANTIZE)


def _int4_ops(format_: Format) -> tuple[str, ...]:
    return _INT4_OPS if format_.weights == "int4" else ()


def _exactly(names: Iterable[str]) -> str:
    # ai-edge-quantizer searches the pattern in the names of an operator's outputs, each followed by ";".
    return "^(?:" + "|".join(map(re.escape, names)) + ");?$"


Extent = tuple[float, float]
Inputs = Callable[[], Iterable[np.ndarray]]


def check_tensorflow_can(format_: Format, spec: PtqSpec) -> None:
    """Raises EffkerasError for options that TensorFlow's converter does not support."""
    asked = {
        f"the recipe {format_.name} (4-bit weights)": format_.weights == "int4",
        f"ranges by {spec.ranges}": spec.ranges not in ("auto", "minmax"),
        "correct_bias": spec.correct_bias,
    }
    wanted = next((what for what, is_asked in asked.items() if is_asked), None)
    if wanted is not None:
        raise EffkerasError(f"the quantizer tensorflow cannot do {wanted}; use ai-edge-quantizer")


def quantize_with_tensorflow(
    model: keras.Model, format_: Format, io: IoType, inputs: Inputs, extent: Extent | None
) -> bytes:
    """Converts and quantizes a model.

    Args:
        model: the model to convert, with float32 arithmetic.
        format_: the format: float16, dynamic, or int8 or int16 activations.
        io: the type of inputs and outputs; uint8 is made from int8 afterwards.
        inputs: returns the representative dataset, float32 (1, H, W, C) each; called if data is needed.
        extent: the lowest and highest input value; None to measure them on `inputs`.
    """
    with quiet(), warnings.catch_warnings():
        # It expects explicit input statistics although a representative dataset is given.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        converter, names = _converter(model)
        _configure(converter, format_, io, _shown(inputs, extent))
        converted = converter.convert()
    return name_interface(converted, [INPUT], names)


def _converter(model: keras.Model) -> tuple[Any, list[str]]:
    import tensorflow as tf

    traced, names = traced_call(model)
    return tf.lite.TFLiteConverter.from_concrete_functions([traced]), names


def _configure(
    converter: Any, format_: Format, io: IoType, inputs: Callable[[], Iterator[list[np.ndarray]]]
) -> None:
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if format_.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if not format_.needs_data:
        return
    converter.representative_dataset = inputs
    if format_.activations == "int16":
        ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops]
    if io != "float32":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8


def _shown(inputs: Inputs, extent: Extent | None) -> Callable[[], Iterator[list[np.ndarray]]]:
    """The representative dataset: two corners of its first image show the converter the input's extent."""

    def show() -> Iterator[list[np.ndarray]]:
        for position, pixels in enumerate(inputs()):
            if position == 0 and extent is not None:
                pixels = pixels.copy()
                pixels[0, 0, 0], pixels[0, -1, -1] = extent
            yield [np.asarray(pixels, np.float32)]

    return show
