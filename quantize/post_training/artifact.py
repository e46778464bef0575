"""The quantized artifact: a flatbuffer with metadata, and a note on each operator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from effkeras.definitions.definition import ModelSpec
from effkeras.litert.flatbuffer import Operator, layer_of, operators
from effkeras.litert.rewriting import attach_all, attached, with_uint8_io
from effkeras.litert.runner import DEFINITION, RECIPE
from quantize.formats import Format
from quantize.post_training.fake_quantized import UNTRAINED, Trained
from quantize.post_training.options import PtqOptions
from quantize.report import LayerReport, StepReport

if TYPE_CHECKING:
    import keras

STEP = "ptq"
EXACT_INPUT = "the input is float pixels: normalised exactly, then quantized"
EXACT_OUTPUT = "the output is float: int8 would round probabilities to 1/256"
ERROR_IS = "error / std of the layer's output"


@dataclass(frozen=True, slots=True)
class LayerNote:
    """Whether one operator of the artifact is quantized.

    `op` is the operator, such as CONV_2D, `name` the Keras layer it comes from, `why` the reason for float.
    """

    op: str
    name: str
    what: Literal["quantized", "float"]
    why: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Quantized:
    """A quantized artifact, with a note on each operator.

    `errors` are the errors of the operators' outputs, as a share of the output's standard deviation; empty if
    not measured, None where the float model lacks the output. `before` are the reports of steps on the model
    before its conversion.
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
        """The method of the activation ranges; "" without ranges, or if the metadata lacks it."""
        metadata = attached(self.flatbuffer, RECIPE)
        return "" if metadata is None else str(json.loads(metadata).get("ranges", ""))

    def check_strict(self, format_: Format) -> None:
        """Raises EffkerasError for a layer in float that neither the recipe nor float outputs require."""
        wanted = (EXACT_INPUT, EXACT_OUTPUT, format_.float_why)
        if format_.needs_data:
            self.report.check_strict(wanted)

    @property
    def report(self) -> StepReport:
        """The step report, with an entry per operator."""
        errors = self.errors or (None,) * len(self.layers)
        entries = [
            LayerReport(one.name, one.op, "done" if one.what == "quantized" else "skipped", one.why, error)
            for one, error in zip(self.layers, errors, strict=True)
        ]
        return StepReport(STEP, tuple(entries), ERROR_IS, {"bytes": len(self.flatbuffer)})


@dataclass(frozen=True, eq=False, slots=True)
class FloatParts:
    """The float conversion of a model, made once and quantized as often as needed.

    `spec` is the model's definition, None if it has none. `starts_normalized` tells that the normalisation is
    left out, because the input's scale and zero point express it. `model` is the converted model, `before`
    the reports of steps on it. `trained` holds the conversion of a fake-quantized model, which needs no
    calibration images.
    """

    flatbuffer: bytes
    spec: ModelSpec | None
    starts_normalized: bool
    model: keras.Model
    trained: Trained | None = None
    before: tuple[StepReport, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the model's input, (H, W, C)."""
        return tuple(self.model.inputs[0].shape[1:])


def finished(
    parts: FloatParts, options: PtqOptions, flatbuffer: bytes, errors: Sequence[float | None] = ()
) -> Quantized:
    """Sets a quantized flatbuffer's input and output types, adds metadata, and notes each operator."""
    if options.io == "uint8":
        before = len(operators(flatbuffer))
        flatbuffer = with_uint8_io(flatbuffer)
        added = len(operators(flatbuffer)) - before
        errors = [None, *errors, *(None,) * (added - 1)] if errors else ()
    flatbuffer = attach_all(flatbuffer, _metadata(parts, options))
    left = parts.trained.in_float if parts.trained else ()
    notes = tuple(_note(op, options, left) for op in operators(flatbuffer))
    return Quantized(flatbuffer, notes, tuple(errors), parts.before)


def read_quantized(flatbuffer: bytes, options: PtqOptions) -> Quantized:
    """An artifact made by another tool, with a note on each operator."""
    return Quantized(flatbuffer, tuple(_note(op, options, ()) for op in operators(flatbuffer)))


def _metadata(parts: FloatParts, options: PtqOptions) -> dict[str, bytes]:
    is_measured = options.format.needs_data and parts.trained is None
    method = options.range_rule(parts.spec).method if is_measured else ""
    used: dict[str, Any] = {
        **options.format.to_table(),
        "io": options.io,
        "samples": options.samples if is_measured else 0,
        "seed": options.seed,
        "backend": options.spec.backend,
        "ranges": method if parts.trained is None else "trained",
    }
    metadata = {RECIPE: json.dumps(used).encode()}
    return metadata if parts.spec is None else {DEFINITION: parts.spec.to_toml().encode(), **metadata}


def _note(op: Operator, options: PtqOptions, left: Sequence[str]) -> LayerNote:
    name = layer_of(op.outputs[0].name)
    if op.arithmetic != "float":
        return LayerNote(op.name, name, "quantized")
    if op.outputs[0].name in left and name != "normalize":
        return LayerNote(op.name, name, "float", UNTRAINED)
    return LayerNote(op.name, name, "float", _why_float(op, name, options))


def _why_float(op: Operator, name: str, options: PtqOptions) -> str:
    format_ = options.format
    if op.name in format_.float_ops:
        return format_.float_why
    if not format_.needs_data:
        return f"the recipe {format_.name} computes activations in float32"
    if options.io == "float32" and name == "normalize":
        return EXACT_INPUT
    if options.io == "float32" and op.name == "SOFTMAX":
        return EXACT_OUTPUT
    return f"{options.spec.backend} has no 8-bit form of {op.name}"
