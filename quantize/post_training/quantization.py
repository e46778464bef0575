"""Post-training quantization: one float conversion, quantized by the tool and the recipe asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from effkeras.console import track
from effkeras.definition import InputSpec, ModelSpec
from effkeras.errors import EffkerasError, did_you_mean
from effkeras.layers.fake_quant import is_fake_quantized
from effkeras.litert.convert import INPUT, to_flatbuffer, without_normalization
from effkeras.litert.flatbuffer import Operator, attach_all, attached, layer_of, operators, with_uint8_io
from effkeras.litert.runner import DEFINITION, RECIPE
from effkeras.litert.sharing import share_constants
from quantize.aware.conversion import UNTRAINED, Trained, quantized_as_trained, trained_parts
from quantize.post_training import ai_edge, tensorflow_converter
from quantize.post_training.ai_edge import Rules
from quantize.post_training.bias_correction import channel_means, corrected
from quantize.post_training.calibration import (
    Again,
    Calibration,
    Choice,
    Inputs,
    calibration_inputs,
    checked_variety,
)
from quantize.post_training.layer_errors import layer_errors
from quantize.post_training.ranges import RangeRule, Ranges, as_range, check_shown, measure_ranges
from quantize.recipes import Edges, Recipe, check_edges, find
from quantize.report import LayerReport, StepReport
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    import keras

SAMPLES = 128
EQUALIZED_ON = 64
STEP = "ptq"
EXACT_INPUT = "the input is float pixels: normalised exactly, then quantized"
EXACT_OUTPUT = "the output is float: int8 would round probabilities to 1/256"
ERROR_IS = "error / std of the layer's output"
BACKENDS = ("ai-edge-quantizer", "tensorflow")


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
    """An artifact and what was done to its layers.

    `errors` are those of each operator's output, as a share of its standard deviation, where they were
    measured and there is something to compare with. `before` says what was done to the model before it was
    converted.
    """

    flatbuffer: bytes
    layers: tuple[LayerNote, ...]
    errors: tuple[float | None, ...] = ()
    before: tuple[StepReport, ...] = ()

    @property
    def left_in_float(self) -> tuple[LayerNote, ...]:
        """The operators that compute in float."""
        return tuple(layer for layer in self.layers if layer.what == "float")

    @property
    def ranges(self) -> str:
        """How the ranges of activations were found; "" without any, or for an artifact that does not say."""
        papers = attached(self.flatbuffer, RECIPE)
        return "" if papers is None else str(json.loads(papers).get("ranges", ""))

    def check_strict(self, recipe: Recipe) -> None:
        """Raises EffkerasError for a layer in float that neither recipe nor float edges want there."""
        wanted = (EXACT_INPUT, EXACT_OUTPUT, recipe.float_why)
        if recipe.needs_data:
            self.report.check_strict(wanted)

    @property
    def report(self) -> StepReport:
        """The same in the form of every step's report, with an entry per operator."""
        errors = self.errors or (None,) * len(self.layers)
        entries = [
            LayerReport(one.name, one.op, "done" if one.what == "quantized" else "skipped", one.why, error)
            for one, error in zip(self.layers, errors, strict=True)
        ]
        return StepReport(STEP, tuple(entries), ERROR_IS, {"bytes": len(self.flatbuffer)})


@dataclass(frozen=True, slots=True)
class PtqOptions:
    """Everything about a quantization but the model and its pictures."""

    recipe: Recipe
    io: Edges = "float32"
    samples: int = SAMPLES
    seed: int = 0
    spec: PtqSpec = field(default_factory=PtqSpec)

    def range_rule(self) -> RangeRule:
        """How ranges are found. Raises EffkerasError for an unknown method or a percentile out of range."""
        chosen = self.spec.ranges
        if chosen == "auto":
            clips = self.recipe.activations == "int8" and self.spec.backend == "ai-edge-quantizer"
            chosen = "percentile" if clips else "minmax"
        steps = 2**16 - 1 if self.recipe.activations == "int16" else 2**8 - 1
        return RangeRule(chosen, self.spec.percentile, steps)


@dataclass(frozen=True, eq=False, slots=True)
class FloatParts:
    """The float conversion of a model, made once and quantized as often as needed.

    `spec` is the model's definition, None where it has none. `starts_normalized` says that the normalisation
    is left out, because the quantized input expresses it. `model` is what was converted, `before` what was
    done to it before. `trained` is what a fake-quantized model says of its artifact: such a model needs no
    pictures.
    """

    flatbuffer: bytes
    spec: ModelSpec | None
    starts_normalized: bool
    model: keras.Model
    trained: Trained | None = None
    before: tuple[StepReport, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """What the model takes, (H, W, C)."""
        return _shape(self.model)


def ptq(
    model: keras.Model,
    recipe: str | Recipe,
    data: Calibration | None = None,
    *,
    io: Edges = "float32",
    samples: int = SAMPLES,
    seed: int = 0,
    spec: PtqSpec | None = None,
) -> Quantized:
    """Quantizes a trained model.

    Args:
        model: any functional Keras model that takes one picture.
        recipe: a recipe or its name.
        data: what ranges are measured on, if the recipe needs them and the model is not fake-quantized:
            labelled pictures, for a model built by effkeras; or float32 arrays as the model takes them,
            (n, H, W, C) or one (H, W, C) after another.
        io: the type of inputs and outputs; others than float32 need a model built by effkeras. An int8 input
            takes the pixel minus 128, a uint8 input the pixel, exactly; outputs are scaled, each by its own
            scale.
        samples: how many pictures to measure on, at most.
        seed: which pictures are chosen.
        spec: how ranges are found, what is corrected, and by which tool.

    Returns:
        The artifact with the model's definition and the recipe attached, and a note per operator.

    Raises:
        EffkerasError: the recipe needs pictures and none are given, `io` does not fit the recipe, the backend
            cannot do what is asked, weights or activations are not finite, or the pictures show nothing.
    """
    options = PtqOptions(find(recipe), io, samples, seed, spec or PtqSpec())
    if is_fake_quantized(model):
        check_trained(options)
        return quantize_parts(float_parts(model, options), options, None)
    check(options, data)
    return quantize_parts(float_parts(model, options, data), options, data)


def check(options: PtqOptions, data: object | None) -> None:
    """Raises EffkerasError for options that cannot work, before any long work is done.

    Of the data it only matters whether there are any.
    """
    check_edges(options.recipe, options.io)
    options.range_rule()
    if options.spec.backend not in BACKENDS:
        hint = did_you_mean(options.spec.backend, BACKENDS)
        raise EffkerasError(f"there is no backend {options.spec.backend!r}; {hint}")
    if options.spec.backend == "tensorflow":
        tensorflow_converter.check_can(options.recipe, options.spec)
    looks = {
        "equalisation": options.spec.equalize,
        "bias correction": options.spec.correct_bias,
        "the error of each layer": options.spec.errors,
    }
    for what in (what for what, is_asked in looks.items() if is_asked and data is None):
        raise EffkerasError(f"{what} is measured on pictures: give --data DIR")
    if options.recipe.needs_data and data is None:
        raise EffkerasError(
            f"the recipe {options.recipe.name} measures ranges on pictures: give --data DIR with a few "
            "hundred of them, or use --recipe dynamic, which needs none"
        )


def check_trained(options: PtqOptions) -> None:
    """Raises EffkerasError for options that a fake-quantized model, whose ranges are set, cannot follow."""
    check_edges(options.recipe, options.io)
    if (options.recipe.weights, options.recipe.activations) != ("int8", "int8"):
        raise EffkerasError(f"the model is fake-quantized for int8; {options.recipe.name} cannot use that")
    spec = options.spec
    if spec.backend != BACKENDS[0] or spec.equalize or spec.correct_bias or spec.errors:
        raise EffkerasError(
            "the model is fake-quantized: its kernels, biases and ranges are trained; "
            "leave out equalize, correct_bias, errors and backend"
        )


def float_parts(model: keras.Model, options: PtqOptions, data: Calibration | None = None) -> FloatParts:
    """The float conversion that `quantize_parts` starts from; the model itself stays as it is.

    `data` is needed for equalisation only. Raises EffkerasError when weights are not finite, or the edges
    asked for need a definition.
    """
    from effkeras.rewrite import check_finite

    check_finite(model)
    spec = _definition(model, options.io)
    before: tuple[StepReport, ...] = ()
    if options.spec.equalize and data is not None:
        from quantize.post_training.equalization import equalize

        inputs = calibration_inputs(data, spec.input if spec else None, _shape(model), _choice(options))
        equal = equalize(model, track(inputs.first(EQUALIZED_ON), "equalizing"))
        model, before = equal.model, (equal.report,)
    absorbed = options.io != "float32" and spec is not None and is_absorbable(spec.input)
    if is_fake_quantized(model):
        trained = trained_parts(model, skip_normalization=absorbed, pixels=options.io != "float32")
        return FloatParts(trained.flatbuffer, spec, absorbed, model, trained)
    return FloatParts(to_flatbuffer(model, skip_normalization=absorbed), spec, absorbed, model, before=before)


def quantize_parts(parts: FloatParts, options: PtqOptions, data: Calibration | None) -> Quantized:
    """Quantizes a float conversion; see `ptq`."""
    needed = options.recipe.needs_data or options.spec.correct_bias or options.spec.errors
    return quantize_pixels(
        parts, options, inputs_of(parts, options, data) if needed and data is not None else ()
    )


def inputs_of(parts: FloatParts, options: PtqOptions, data: Calibration) -> Inputs:
    """The pictures that `options` choose of `data`, as the model takes them."""
    prepared = parts.spec.input if parts.spec else None
    return calibration_inputs(data, prepared, parts.shape, _choice(options))


def quantize_pixels(
    parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray], ranges: Ranges | None = None
) -> Quantized:
    """The same with pictures given as the model takes them, float32 (1, H, W, C) each.

    `ranges` are those of its activations, where they were measured before.
    """
    if parts.trained is not None:
        rules = Rules(options.recipe, options.io)
        return finished(parts, options, share_constants(quantized_as_trained(parts.trained, rules)))
    pixels = list(pixels) if iter(pixels) is pixels else pixels
    if options.recipe.weights == "float32":
        return finished(parts, options, parts.flatbuffer)
    if options.spec.backend == "tensorflow":
        flatbuffer = _by_tensorflow(parts, options, pixels)
    else:
        if ranges is None and options.recipe.needs_data:
            ranges = ranges_of(parts, options, pixels)
        flatbuffer = ai_edge.quantize(parts.flatbuffer, ranges, Rules(options.recipe, options.io))
    flatbuffer = share_constants(flatbuffer)
    return _corrected_and_measured(parts, options, flatbuffer, pixels)


def means_of(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """What bias correction needs to know of the pictures; nothing where it is not asked for."""
    if not options.spec.correct_bias:
        return {}
    return channel_means(parts.flatbuffer, as_taken(parts, Again(lambda: track(pixels, "averaging"))))


def _corrected_and_measured(
    parts: FloatParts, options: PtqOptions, flatbuffer: bytes, pixels: Iterable[np.ndarray]
) -> Quantized:
    """The last touches to a quantized flatbuffer: biases, errors, edges and papers."""
    if options.spec.correct_bias:
        flatbuffer = corrected(parts.flatbuffer, flatbuffer, means_of(parts, options, pixels))
    errors: Sequence[float | None] = ()
    if options.spec.errors:
        shown = as_taken(parts, Again(lambda: track(pixels, "measuring")))
        errors = layer_errors(parts.flatbuffer, flatbuffer, shown)
    return finished(parts, options, flatbuffer, errors)


def ranges_of(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> Ranges:
    """The ranges of all activations on some pictures."""
    if parts.trained is not None:
        return dict(parts.trained.ranges)
    ranges = measure_ranges(parts.flatbuffer, _varied(parts, pixels), options.range_rule())
    # The input's range is known, not measured: only this makes the quantized input the pixel itself.
    return ranges if parts.spec is None else {**ranges, INPUT: as_range(*_extent(parts, parts.spec.input))}


def finished(
    parts: FloatParts, options: PtqOptions, flatbuffer: bytes, errors: Sequence[float | None] = ()
) -> Quantized:
    """A quantized flatbuffer with its edges, its papers and a note per operator."""
    if options.io == "uint8":
        before = len(operators(flatbuffer))
        flatbuffer = with_uint8_io(flatbuffer)
        added = len(operators(flatbuffer)) - before
        errors = [None, *errors, *(None,) * (added - 1)] if errors else ()
    flatbuffer = attach_all(flatbuffer, _papers(parts, options))
    left = parts.trained.in_float if parts.trained else ()
    notes = tuple(_note(op, options, left) for op in operators(flatbuffer))
    return Quantized(flatbuffer, notes, tuple(errors), parts.before)


def read_quantized(flatbuffer: bytes, options: PtqOptions) -> Quantized:
    """An artifact that another tool made, with a note per operator."""
    return Quantized(flatbuffer, tuple(_note(op, options, ()) for op in operators(flatbuffer)))


def is_absorbable(spec: InputSpec) -> bool:
    """Whether one scale and a whole zero point express the normalisation exactly."""
    same = len(set(spec.mean)) == 1 and len(set(spec.std)) == 1
    return same and spec.mean[0] == round(spec.mean[0]) and 0 <= spec.mean[0] <= 255


def _shape(model: keras.Model) -> tuple[int, ...]:
    return tuple(model.inputs[0].shape[1:])


def _choice(options: PtqOptions) -> Choice:
    return Choice(options.samples, options.seed)


def _definition(model: keras.Model, io: Edges) -> ModelSpec | None:
    from effkeras.models import spec_of

    try:
        return spec_of(model)
    except EffkerasError as error:
        if io != "float32":
            raise EffkerasError(
                f"{error}; without a definition nothing says what its input means: use --io float32"
            ) from error
        return None


def as_taken(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Pictures as the float conversion takes them, normalised where it starts after the normalisation."""
    if parts.spec is None or not parts.starts_normalized:
        return pixels
    mean, std = (np.array(values, np.float32) for values in (parts.spec.input.mean, parts.spec.input.std))
    return Again(lambda: ((one - mean) / std for one in pixels))


def _by_tensorflow(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> bytes:
    model = without_normalization(parts.model) if parts.starts_normalized else parts.model
    extent = None if parts.spec is None else _extent(parts, parts.spec.input)
    if options.recipe.needs_data:
        check_shown(parts.flatbuffer, _varied(parts, pixels))

    def inputs() -> Iterable[np.ndarray]:
        return as_taken(parts, pixels)

    return tensorflow_converter.quantize(model, options.recipe, options.io, inputs, extent)


def _varied(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Pictures as the float conversion takes them; an error at their end if they show nothing."""
    ground = None if parts.spec is None else np.array(parts.spec.input.mean, np.float32)
    return as_taken(parts, Again(lambda: checked_variety(track(pixels, "calibrating"), ground)))


def _extent(parts: FloatParts, spec: InputSpec) -> tuple[float, float]:
    """The lowest and highest value of the float conversion's input."""
    if not parts.starts_normalized:
        return 0.0, 255.0
    return -spec.mean[0] / spec.std[0], (255 - spec.mean[0]) / spec.std[0]


def _papers(parts: FloatParts, options: PtqOptions) -> dict[str, bytes]:
    is_measured = options.recipe.needs_data and parts.trained is None
    method = options.range_rule().method if is_measured else ""
    used: dict[str, Any] = {
        **options.recipe.to_table(),
        "io": options.io,
        "samples": options.samples if is_measured else 0,
        "seed": options.seed,
        "backend": options.spec.backend,
        "ranges": method if parts.trained is None else "trained",
    }
    papers = {RECIPE: json.dumps(used).encode()}
    return papers if parts.spec is None else {DEFINITION: parts.spec.to_toml().encode(), **papers}


def _note(op: Operator, options: PtqOptions, left: Sequence[str]) -> LayerNote:
    name = layer_of(op.outputs[0].name)
    if op.arithmetic != "float":
        return LayerNote(op.name, name, "quantized")
    if op.outputs[0].name in left and name != "normalize":
        return LayerNote(op.name, name, "float", UNTRAINED)
    return LayerNote(op.name, name, "float", _why_float(op, name, options))


def _why_float(op: Operator, name: str, options: PtqOptions) -> str:
    recipe = options.recipe
    if op.name in recipe.float_ops:
        return recipe.float_why
    if not recipe.needs_data:
        return f"the recipe {recipe.name} computes activations in float32"
    if options.io == "float32" and name == "normalize":
        return EXACT_INPUT
    if options.io == "float32" and op.name == "SOFTMAX":
        return EXACT_OUTPUT
    return f"{options.spec.backend} has no 8-bit form of {op.name}"
