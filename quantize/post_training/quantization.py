"""Post-training quantization: converts a model to float once, and quantizes it by a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.layers.fake_quant import is_fake_quantized
from effkeras.litert.convert import INPUT, to_flatbuffer, without_normalization
from effkeras.litert.rewriting import share_constants
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from quantize.formats import Format, IoType, find
from quantize.post_training.activations import layer_errors
from quantize.post_training.artifact import FloatParts, Quantized, finished
from quantize.post_training.backends import (
    Rules,
    quantize_with_ai_edge,
    quantize_with_tensorflow,
)
from quantize.post_training.calibration import (
    Calibration,
    CalibrationInputs,
    Reiterable,
    Sampling,
    calibration_inputs,
    checked_variety,
)
from quantize.post_training.corrections import channel_means, corrected
from quantize.post_training.fake_quantized import quantized_as_trained, trained_parts
from quantize.post_training.options import SAMPLES, PtqOptions, check, check_trained
from quantize.post_training.ranges import PIXELS, Ranges, as_range, check_shown, measure_ranges
from quantize.report import StepReport
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    import keras

EQUALIZED_ON = 64


def ptq(
    model: keras.Model,
    recipe: str | Format,
    data: Calibration | None = None,
    *,
    io: IoType = "float32",
    samples: int = SAMPLES,
    seed: int = 0,
    spec: PtqSpec | None = None,
) -> Quantized:
    """Quantizes a trained model.

    Args:
        model: any functional Keras model that takes one image.
        recipe: a format or its name.
        data: the calibration images, if the recipe needs ranges and the model is not fake-quantized:
            labelled images, for a model built by effkeras; or float32 arrays as the model takes them,
            (n, H, W, C) or an iterable of (H, W, C).
        io: the type of inputs and outputs; int8 and uint8 need a model built by effkeras. An int8 input is
            exactly the pixel minus 128, a uint8 input exactly the pixel; each output has its own scale.
        samples: the largest number of calibration images.
        seed: chooses the calibration images.
        spec: the range method, the corrections, and the backend.

    Returns:
        The artifact with the model's definition and the recipe as metadata, and a note on each operator.

    Raises:
        EffkerasError: the recipe needs images and none are given, `io` does not fit the recipe, the backend
            does not support an option, weights or activations are NaN or infinite, or the images are blank.
    """
    options = PtqOptions(find(recipe), io, samples, seed, spec or PtqSpec())
    if is_fake_quantized(model):
        check_trained(options)
        return quantize_parts(float_parts(model, options), options, None)
    check(options, data)
    return quantize_parts(float_parts(model, options, data), options, data)


def float_parts(model: keras.Model, options: PtqOptions, data: Calibration | None = None) -> FloatParts:
    """The float conversion that `quantize_parts` quantizes; the model itself is not changed.

    Only equalisation needs `data`. Raises EffkerasError when weights are NaN or infinite, or when the input
    and output type needs a definition and the model has none.
    """
    from effkeras.graph.rewrite import check_finite

    check_finite(model)
    spec = _definition(model, options.io)
    before: tuple[StepReport, ...] = ()
    if options.spec.equalize and data is not None:
        from quantize.post_training.equalization import equalize

        inputs = calibration_inputs(
            data, spec.input if spec else None, tuple(model.inputs[0].shape[1:]), _sampling(options)
        )
        equal = equalize(model, track(inputs.first(EQUALIZED_ON), "equalizing"))
        model, before = equal.model, (equal.report,)
    absorbed = options.io != "float32" and spec is not None and is_absorbable(spec.input)
    if is_fake_quantized(model):
        trained = trained_parts(model, skip_normalization=absorbed, pixels=options.io != "float32")
        return FloatParts(trained.flatbuffer, spec, absorbed, model, trained)
    return FloatParts(to_flatbuffer(model, skip_normalization=absorbed), spec, absorbed, model, before=before)


def quantize_parts(parts: FloatParts, options: PtqOptions, data: Calibration | None) -> Quantized:
    """Quantizes a float conversion; see `ptq`."""
    needed = options.format.needs_data or options.spec.correct_bias or options.spec.errors
    return quantize_pixels(
        parts, options, inputs_of(parts, options, data) if needed and data is not None else ()
    )


def inputs_of(parts: FloatParts, options: PtqOptions, data: Calibration) -> CalibrationInputs:
    """The calibration images that `options` select from `data`, as the model takes them."""
    prepared = parts.spec.input if parts.spec else None
    return calibration_inputs(data, prepared, parts.shape, _sampling(options))


def quantize_pixels(
    parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray], ranges: Ranges | None = None
) -> Quantized:
    """As `quantize_parts`, with images as the model takes them, float32 (1, H, W, C) each.

    `ranges` are the ranges of its activations, if they are already measured.
    """
    if parts.trained is not None:
        rules = Rules(options.format, options.io)
        return finished(parts, options, share_constants(quantized_as_trained(parts.trained, rules)))
    pixels = list(pixels) if iter(pixels) is pixels else pixels
    if options.format.weights == "float32":
        return finished(parts, options, parts.flatbuffer)
    if options.spec.backend == "tensorflow":
        flatbuffer = _by_tensorflow(parts, options, pixels)
    else:
        if ranges is None and options.format.needs_data:
            ranges = ranges_of(parts, options, pixels)
        flatbuffer = quantize_with_ai_edge(parts.flatbuffer, ranges, Rules(options.format, options.io))
    flatbuffer = share_constants(flatbuffer)
    return _corrected_and_measured(parts, options, flatbuffer, pixels)


def means_of(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The channel means for bias correction; empty if `options` do not ask for it."""
    if not options.spec.correct_bias:
        return {}
    return channel_means(
        parts.flatbuffer, conversion_inputs(parts, Reiterable(lambda: track(pixels, "averaging")))
    )


def _corrected_and_measured(
    parts: FloatParts, options: PtqOptions, flatbuffer: bytes, pixels: Iterable[np.ndarray]
) -> Quantized:
    """Corrects biases, measures errors, and sets input and output types and metadata, as `options` ask."""
    if options.spec.correct_bias:
        flatbuffer = corrected(parts.flatbuffer, flatbuffer, means_of(parts, options, pixels))
    errors: Sequence[float | None] = ()
    if options.spec.errors:
        inputs = conversion_inputs(parts, Reiterable(lambda: track(pixels, "measuring")))
        errors = layer_errors(parts.flatbuffer, flatbuffer, inputs)
    return finished(parts, options, flatbuffer, errors)


def ranges_of(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> Ranges:
    """The ranges of all activations on some images."""
    if parts.trained is not None:
        return dict(parts.trained.ranges)
    ranges = measure_ranges(parts.flatbuffer, _varied(parts, pixels), options.range_rule(parts.spec))
    # The input's range is known and not measured: only then is the quantized input the pixel itself.
    return ranges if parts.spec is None else {**ranges, INPUT: as_range(*_extent(parts, parts.spec.input))}


def is_absorbable(spec: InputSpec) -> bool:
    """Whether one scale and an integer zero point express the normalisation exactly."""
    same = len(set(spec.mean)) == 1 and len(set(spec.std)) == 1
    return same and spec.mean[0] == round(spec.mean[0]) and 0 <= spec.mean[0] <= 255


def _sampling(options: PtqOptions) -> Sampling:
    return Sampling(options.samples, options.seed)


def _definition(model: keras.Model, io: IoType) -> ModelSpec | None:
    from effkeras.layers.normalize import spec_of

    try:
        return spec_of(model)
    except EffkerasError as error:
        if io != "float32":
            raise EffkerasError(
                f"{error}; without a definition the range of its input is unknown: use --io float32"
            ) from error
        return None


def conversion_inputs(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Images as the float conversion takes them: normalised if it leaves out the normalisation."""
    if parts.spec is None or not parts.starts_normalized:
        return pixels
    mean, std = (np.array(values, np.float32) for values in (parts.spec.input.mean, parts.spec.input.std))
    return Reiterable(lambda: ((one - mean) / std for one in pixels))


def _by_tensorflow(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> bytes:
    model = without_normalization(parts.model) if parts.starts_normalized else parts.model
    extent = None if parts.spec is None else _extent(parts, parts.spec.input)
    if options.format.needs_data:
        check_shown(parts.flatbuffer, _varied(parts, pixels))

    def inputs() -> Iterable[np.ndarray]:
        return conversion_inputs(parts, pixels)

    return quantize_with_tensorflow(model, options.format, options.io, inputs, extent)


def _varied(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Images as the float conversion takes them; at their end, an error if all have one colour."""
    ground = None if parts.spec is None else np.array(parts.spec.input.mean, np.float32)
    return conversion_inputs(parts, Reiterable(lambda: checked_variety(track(pixels, "calibrating"), ground)))


def _extent(parts: FloatParts, spec: InputSpec) -> tuple[float, float]:
    """The lowest and highest possible value of the float conversion's input."""
    if not parts.starts_normalized:
        return PIXELS
    return -spec.mean[0] / spec.std[0], (255 - spec.mean[0]) / spec.std[0]
