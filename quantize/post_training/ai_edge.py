"""Quantization by ai-edge-quantizer: from a float .tflite to one with some operators in few bits."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from effkeras.litert.flatbuffer import Operator
from effkeras.quiet import quiet
from quantize.post_training.ranges import Ranges
from quantize.post_training.silent_filters import with_biases_in_reach
from quantize.post_training.small_addends import with_addends_in_reach
from quantize.recipes import Edges, Recipe
from quantize.specs import Precision

_EVERYWHERE = ".*"
_NORMALIZATION = r"/normalize(_\d+)?/"
_INT4_OPS = ("CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, slots=True)
class Rules:
    """Which operators become what.

    `kept` are the output tensors' names of operators that stay at `precision` instead of what the recipe
    says; `only`, when given, those of the only operators that follow the recipe, all others stay in float.
    """

    recipe: Recipe
    io: Edges = "float32"
    kept: tuple[str, ...] = ()
    precision: Precision = "float32"
    only: tuple[str, ...] | None = None

    @property
    def most_bits(self) -> int:
        """Bits of the activations that have most."""
        in_16 = self.recipe.activations == "int16" or (self.kept and self.precision == "w8a16")
        return 16 if in_16 else 8


def scope_of(op: Operator) -> str:
    """The name by which rules know an operator: that of its first output."""
    return op.outputs[0].name


def quantize(flatbuffer: bytes, ranges: Ranges | None, rules: Rules) -> bytes:
    """Quantizes a float .tflite by `rules`; `ranges` are needed where activations are quantized."""
    if rules.recipe.weights == "float32":
        return flatbuffer
    if ranges is not None:
        if rules.most_bits == 8:
            ranges = with_addends_in_reach(flatbuffer, ranges)
        ranges = with_biases_in_reach(flatbuffer, ranges, rules.most_bits)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of how it uses the interpreter itself
        tool = _tool(flatbuffer)
        _set_rules(tool, rules)
        result = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _tool(flatbuffer: bytes) -> Any:
    from ai_edge_quantizer import quantizer

    class Quantizer(quantizer.Quantizer):
        def _ensure_model_qsv_sufficient(self, calibration_result: Any) -> None:
            """It holds all activations in memory, to look for ranges without values; ours have some."""

    return Quantizer(flatbuffer)


def _set_rules(tool: Any, rules: Rules) -> None:
    _follow(tool, rules.recipe, _EVERYWHERE if rules.only is None else _exactly(rules.only))
    if rules.kept and rules.precision == "w8a16":
        _static(tool, _exactly(rules.kept), bits=(16, 8))
    elif rules.kept and rules.precision == "float32":
        _leave(tool, _exactly(rules.kept), ["*"])
    _leave(tool, _EVERYWHERE, rules.recipe.float_ops)
    if rules.recipe.needs_data and rules.io == "float32":
        _leave(tool, _EVERYWHERE, ["INPUT", "OUTPUT", "SOFTMAX"])
        _leave(tool, _NORMALIZATION, ["*"])


def _follow(tool: Any, recipe: Recipe, scope: str) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName

    if recipe.weights == "float16":
        cast = AlgorithmName.FLOAT_CASTING
        tool.add_weight_only_config(scope, Op.ALL_SUPPORTED, 16, algorithm_key=cast)
    elif recipe.activations == "float32":
        tool.add_dynamic_config(scope, Op.ALL_SUPPORTED, 8)
        for name in _int4_ops(recipe):
            tool.add_dynamic_config(scope, Op(name), 4)
    else:
        bits = 16 if recipe.activations == "int16" else 8
        _static(tool, scope, bits=(bits, 8))
        for name in _int4_ops(recipe):
            tool.add_static_config(scope, Op(name), bits, 4)


def _static(tool: Any, scope: str, bits: tuple[int, int]) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op

    tool.add_static_config(scope, Op.ALL_SUPPORTED, *bits)


def _leave(tool: Any, scope: str, operations: Iterable[str]) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName

    for name in operations:
        tool.update_quantization_recipe(scope, Op(name), algorithm_key=AlgorithmName.NO_QUANTIZE)


def _int4_ops(recipe: Recipe) -> tuple[str, ...]:
    return _INT4_OPS if recipe.weights == "int4" else ()


def _exactly(names: Iterable[str]) -> str:
    # ai-edge-quantizer searches for the pattern in the names of an operator's outputs, each ended by ";".
    return "^(?:" + "|".join(map(re.escape, names)) + ");?$"
