"""The options of post-training quantization, and their checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError, did_you_mean
from quantize.formats import Format, IoType, check_io
from quantize.post_training.backends import (
    check_tensorflow_can,
)
from quantize.post_training.ranges import RangeRule
from quantize.specs import PtqSpec, RangeMethod

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec

# The method that clips a classifier's and a detector's activations. A small object activates so few pixels
# that a percentile would cut off what tells it from the background.
_CLIPPING: tuple[RangeMethod, RangeMethod] = ("percentile", "mse")
SAMPLES = 128
BACKENDS = ("ai-edge-quantizer", "tensorflow")


@dataclass(frozen=True, slots=True)
class PtqOptions:
    """All inputs of a quantization except the model and its images."""

    format: Format
    io: IoType = "float32"
    samples: int = SAMPLES
    seed: int = 0
    spec: PtqSpec = field(default_factory=PtqSpec)

    def range_rule(self, model: ModelSpec | None = None) -> RangeRule:
        """The rule for ranges of a model with this definition, if it has one.

        Raises EffkerasError for an unknown method or a percentile out of range.
        """
        chosen = self.spec.ranges
        if chosen == "auto":
            clips = self.format.activations == "int8" and self.spec.backend == "ai-edge-quantizer"
            chosen = _CLIPPING[model is not None and model.is_detector] if clips else "minmax"
        steps = 2**16 - 1 if self.format.activations == "int16" else 2**8 - 1
        return RangeRule(chosen, self.spec.percentile, steps)


def check(options: PtqOptions, data: object | None) -> None:
    """Raises EffkerasError for invalid options, before any long work.

    It only checks whether `data` is None.
    """
    check_io(options.format, options.io)
    options.range_rule()
    if options.spec.backend not in BACKENDS:
        hint = did_you_mean(options.spec.backend, BACKENDS)
        raise EffkerasError(f"there is no quantizer {options.spec.backend!r}; {hint}")
    if options.spec.backend == "tensorflow":
        check_tensorflow_can(options.format, options.spec)
    requested = {
        "equalisation": options.spec.equalize,
        "bias correction": options.spec.correct_bias,
        "the error of each layer": options.spec.errors,
    }
    for what in (what for what, is_asked in requested.items() if is_asked and data is None):
        raise EffkerasError(f"{what} is measured on images: give --data DIR")
    if options.format.needs_data and data is None:
        raise EffkerasError(
            f"the recipe {options.format.name} measures ranges on images: give --data DIR with a few "
            "hundred of them, or use --recipe dynamic, which needs none"
        )


def check_trained(options: PtqOptions) -> None:
    """Raises EffkerasError for options that do not apply to a fake-quantized model: its ranges are fixed."""
    check_io(options.format, options.io)
    if (options.format.weights, options.format.activations) != ("int8", "int8"):
        raise EffkerasError(f"the model is fake-quantized for int8; {options.format.name} cannot use that")
    spec = options.spec
    if spec.backend != BACKENDS[0] or spec.equalize or spec.correct_bias or spec.errors:
        raise EffkerasError(
            "the model is fake-quantized: its kernels, biases and ranges are trained; "
            "leave out equalize, correct_bias, errors and backend"
        )
