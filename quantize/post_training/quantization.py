"""Post-training quantization: one float conversion, quantized by the tool and the recipe asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.layers.fake_quant import is_fake_quantized
from effkeras.litert.convert import INPUT, to_flatbuffer, without_normalization
from effkeras.litert.sharing import share_constants
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
from quantize.post_training.bias_correction import channel_means, corrected
from quantize.post_training.calibration import (
    Calibration,
    CalibrationInputs,
    Reiterable,
    Sampling,
    calibration_inputs,
    checked_variety,
)
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
        recipe: a recipe or its name.
        data: what ranges are measured on, if the recipe needs them and the model is not fake-quantized:
            labelled images, for a model built by effkeras; or float32 arrays as the model takes them,
            (n, H, W, C) or one (H, W, C) after another.
        io: the type of inputs and outputs; others than float32 need a model built by effkeras. An int8 input
            takes the pixel minus 128, a uint8 input the pixel, exactly; outputs are scaled, each by its own
            scale.
        samples: how many images to measure on, at most.
        seed: which images are chosen.
        spec: how ranges are found, what is corrected, and by which tool.

    Returns:
        The artifact with the model's definition and the recipe attached, and a note per operator.

    Raises:
        EffkerasError: the recipe needs images and none are given, `io` does not fit the recipe, the backend
            cannot do what is asked, weights or activations are not finite, or the images show nothing.
    """
    options = PtqOptions(find(recipe), io, samples, seed, spec or PtqSpec())
    if is_fake_quantized(model):
        check_trained(options)
        return quantize_parts(float_parts(model, options), options, None)
    check(options, data)
    return quantize_parts(float_parts(model, options, data), options, data)


def float_parts(model: keras.Model, options: PtqOptions, data: Calibration | None = None) -> FloatParts:
    """The float conversion that `quantize_parts` starts from; the model itself stays as it is.

    `data` is needed for equalisation only. Raises EffkerasError when weights are not finite, or the
    requested input and output types need a definition.
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
    """The images that `options` choose of `data`, as the model takes them."""
    prepared = parts.spec.input if parts.spec else None
    return calibration_inputs(data, prepared, parts.shape, _sampling(options))


def quantize_pixels(
    parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray], ranges: Ranges | None = None
) -> Quantized:
    """The same with images given as the model takes them, float32 (1, H, W, C) each.

    `ranges` are those of its activations, where they were measured before.
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
    """What bias correction needs to know of the images; nothing where it is not asked for."""
    if not options.spec.correct_bias:
        return {}
    return channel_means(parts.flatbuffer, as_taken(parts, Reiterable(lambda: track(pixels, "averaging"))))


def _corrected_and_measured(
    parts: FloatParts, options: PtqOptions, flatbuffer: bytes, pixels: Iterable[np.ndarray]
) -> Quantized:
    """Finishes a quantized flatbuffer: biases, errors, input and output types, metadata."""
    if options.spec.correct_bias:
        flatbuffer = corrected(parts.flatbuffer, flatbuffer, means_of(parts, options, pixels))
    errors: Sequence[float | None] = ()
    if options.spec.errors:
        shown = as_taken(parts, Reiterable(lambda: track(pixels, "measuring")))
        errors = layer_errors(parts.flatbuffer, flatbuffer, shown)
    return finished(parts, options, flatbuffer, errors)


def ranges_of(parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray]) -> Ranges:
    """The ranges of all activations on some images."""
    if parts.trained is not None:
        return dict(parts.trained.ranges)
    ranges = measure_ranges(parts.flatbuffer, _varied(parts, pixels), options.range_rule())
    # The input's range is known, not measured: only this makes the quantized input the pixel itself.
    return ranges if parts.spec is None else {**ranges, INPUT: as_range(*_extent(parts, parts.spec.input))}


def is_absorbable(spec: InputSpec) -> bool:
    """Whether one scale and a whole zero point express the normalisation exactly."""
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
                f"{error}; without a definition nothing says what its input means: use --io float32"
            ) from error
        return None


def as_taken(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Images as the float conversion takes them, normalised where it starts after the normalisation."""
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
        return as_taken(parts, pixels)

    return quantize_with_tensorflow(model, options.format, options.io, inputs, extent)


def _varied(parts: FloatParts, pixels: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Images as the float conversion takes them; an error at their end if they show nothing."""
    ground = None if parts.spec is None else np.array(parts.spec.input.mean, np.float32)
    return as_taken(parts, Reiterable(lambda: checked_variety(track(pixels, "calibrating"), ground)))


def _extent(parts: FloatParts, spec: InputSpec) -> tuple[float, float]:
    """The lowest and highest value of the float conversion's input."""
    if not parts.starts_normalized:
        return PIXELS
    return -spec.mean[0] / spec.std[0], (255 - spec.mean[0]) / spec.std[0]
