"""Post-training quantization: one float conversion, then ai-edge-quantizer on the flatbuffer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from effkeras.console import track
from effkeras.data.records import LabelledData
from effkeras.definition import InputSpec, ModelSpec
from effkeras.errors import EffkerasError
from effkeras.litert.convert import INPUT, to_flatbuffer
from effkeras.litert.flatbuffer import Operator, attach_all, layer_of, operators, uint8_edges
from effkeras.litert.runner import DEFINITION
from effkeras.quiet import quiet
from quantize.calibration import Ranges, as_range, calibration_pixels, measure_ranges, representative
from quantize.recipes import Edges, Recipe, check_edges, find

if TYPE_CHECKING:
    import keras

RECIPE = "effkeras.recipe"
SAMPLES = 128

_EVERYWHERE = ".*"
_NORMALIZATION = r"/normalize(_\d+)?/"


@dataclass(frozen=True, slots=True)
class LayerNote:
    """What became of one operator of the artifact.

    `op` is the operator, such as CONV_2D, `name` the Keras layer it comes from, `why` is empty for what the
    recipe asks for.
    """

    op: str
    name: str
    what: Literal["quantized", "float"]
    why: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Quantized:
    """An artifact and what was done to its layers."""

    flatbuffer: bytes
    layers: tuple[LayerNote, ...]

    @property
    def left_in_float(self) -> tuple[LayerNote, ...]:
        """The operators that compute in float."""
        return tuple(layer for layer in self.layers if layer.what == "float")


@dataclass(frozen=True, slots=True)
class PtqOptions:
    """Everything about a quantization but the model and its pictures."""

    recipe: Recipe
    io: Edges = "float32"
    samples: int = SAMPLES
    seed: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class FloatParts:
    """The float conversion of a model, made once and quantized as often as needed.

    `starts_normalized` says that the normalisation is left out, because the quantized input expresses it.
    """

    flatbuffer: bytes
    spec: ModelSpec
    starts_normalized: bool


def ptq(
    model: keras.Model,
    recipe: str | Recipe,
    data: LabelledData | None = None,
    *,
    io: Edges = "float32",
    samples: int = SAMPLES,
    seed: int = 0,
) -> Quantized:
    """Quantizes a trained model.

    Args:
        model: a model built by effkeras.
        recipe: a recipe or its name.
        data: labelled pictures that ranges are measured on, if the recipe needs them.
        io: the type of inputs and outputs. An int8 input takes the pixel minus 128, a uint8 input the pixel,
            exactly; outputs are scaled, each by its own scale.
        samples: how many pictures to measure on, at most.
        seed: which pictures are chosen.

    Returns:
        The artifact with the model's definition and the recipe attached, and a note per operator.

    Raises:
        EffkerasError: the recipe needs pictures and none are given, `io` does not fit the recipe, or the
            model was not built by effkeras.
    """
    options = PtqOptions(find(recipe), io, samples, seed)
    check(options, data)
    return quantize_parts(float_parts(model, options), options, data)


def check(options: PtqOptions, data: LabelledData | None) -> None:
    """Raises EffkerasError for options that cannot work, before any long work is done."""
    check_edges(options.recipe, options.io)
    if options.recipe.needs_data and data is None:
        raise EffkerasError(
            f"the recipe {options.recipe.name} measures ranges on pictures: give --data DIR with a few "
            "hundred of them, or use --recipe dynamic, which needs none"
        )


def float_parts(model: keras.Model, options: PtqOptions) -> FloatParts:
    """The float conversion that `quantize_parts` starts from."""
    from effkeras.models import spec_of

    spec = spec_of(model)
    absorbed = options.io != "float32" and is_absorbable(spec.input)
    return FloatParts(to_flatbuffer(model, skip_normalization=absorbed), spec, absorbed)


def quantize_parts(parts: FloatParts, options: PtqOptions, data: LabelledData | None) -> Quantized:
    """Quantizes a float conversion; see `ptq`."""
    chosen = representative(data, options.samples, options.seed) if data and options.recipe.needs_data else []
    pixels = calibration_pixels(track(chosen, "calibrating"), parts.spec.input) if chosen else iter(())
    return quantize_pixels(parts, options, pixels)


def quantize_pixels(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> Quantized:
    """The same with pictures given as float32 (1, H, W, 3) pixels 0..255."""
    flatbuffer = parts.flatbuffer
    if options.recipe.weights != "float32":
        ranges = _ranges(parts, pixels) if options.recipe.needs_data else None
        flatbuffer = _quantize(parts, options, ranges)
    if options.io == "uint8":
        flatbuffer = uint8_edges(flatbuffer)
    flatbuffer = attach_all(flatbuffer, _papers(parts.spec, options))
    return Quantized(flatbuffer, tuple(_note(op, options) for op in operators(flatbuffer)))


def is_absorbable(spec: InputSpec) -> bool:
    """Whether one scale and a whole zero point express the normalisation exactly."""
    same = len(set(spec.mean)) == 1 and len(set(spec.std)) == 1
    return same and spec.mean[0] == round(spec.mean[0]) and 0 <= spec.mean[0] <= 255


def _ranges(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Ranges:
    spec = parts.spec.input
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    inputs = ((one - mean) / std for one in pixels) if parts.starts_normalized else pixels
    ranges = measure_ranges(parts.flatbuffer, inputs)
    # The input's range is known, not measured: only this makes the quantized input the pixel itself.
    low, high = (-mean[0] / std[0], (255 - mean[0]) / std[0]) if parts.starts_normalized else (0.0, 255.0)
    return {**ranges, INPUT: as_range(low, high)}


def _quantize(parts: FloatParts, options: PtqOptions, ranges: Ranges | None) -> bytes:
    from ai_edge_quantizer import quantizer

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of how it uses the interpreter itself
        tool = quantizer.Quantizer(parts.flatbuffer)
        _set_rules(tool, options)
        result = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _set_rules(tool: Any, options: PtqOptions) -> None:
    from ai_edge_quantizer.qtyping import TFLOperationName as Op
    from ai_edge_quantizer.quantizer import AlgorithmName

    recipe = options.recipe
    if recipe.weights == "float16":
        tool.add_weight_only_config(
            _EVERYWHERE, Op.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING
        )
    elif recipe.activations == "float32":
        tool.add_dynamic_config(_EVERYWHERE, Op.ALL_SUPPORTED, 8)
    else:
        tool.add_static_config(_EVERYWHERE, Op.ALL_SUPPORTED, 8, 8)
    left = [(_EVERYWHERE, Op(name)) for name in recipe.float_ops]
    if recipe.needs_data and options.io == "float32":
        left += [(_EVERYWHERE, op) for op in (Op.INPUT, Op.OUTPUT, Op.SOFTMAX)]
        left += [(_NORMALIZATION, Op.ALL_SUPPORTED)]
    for scope, op in left:
        tool.update_quantization_recipe(scope, op, algorithm_key=AlgorithmName.NO_QUANTIZE)


def _papers(spec: ModelSpec, options: PtqOptions) -> dict[str, bytes]:
    used = {
        **options.recipe.to_table(),
        "io": options.io,
        "samples": options.samples if options.recipe.needs_data else 0,
        "seed": options.seed,
    }
    return {DEFINITION: spec.to_toml().encode(), RECIPE: json.dumps(used).encode()}


def _note(op: Operator, options: PtqOptions) -> LayerNote:
    name = layer_of(op.outputs[0].name)
    if op.arithmetic != "float":
        return LayerNote(op.name, name, "quantized")
    return LayerNote(op.name, name, "float", _why_float(op, name, options))


def _why_float(op: Operator, name: str, options: PtqOptions) -> str:
    recipe = options.recipe
    if op.name in recipe.float_ops:
        return recipe.float_why
    if not recipe.needs_data:
        return f"the recipe {recipe.name} computes activations in float32"
    if options.io == "float32" and name == "normalize":
        return "the input is float pixels: normalised exactly, then quantized"
    if options.io == "float32" and op.name == "SOFTMAX":
        return "the output is float: int8 would round probabilities to 1/256"
    return f"ai-edge-quantizer has no 8-bit form of {op.name}"
