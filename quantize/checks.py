"""Checks a .tflite file before it gets its final name.

The check reads the file back, runs it on images and compares it with the Keras model. It refuses NaN or
infinite outputs, outputs that are the same for every image, and a float artifact whose outputs differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effkeras.detection.nms import BOXES, CLASSES, COUNT, HEADS, Decoder
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.litert.flatbuffer import IOTensor, interface, operators
from effkeras.litert.rewriting import with_outputs
from effkeras.litert.runner import LiteRTModel, make_interpreter, quantized_pixels
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.files import whole_file
from quantize.comparison import ROUNDING, Agreement, Outputs, agreements, spread

if TYPE_CHECKING:
    import keras

# The largest allowed difference from the model's outputs (`Agreement.error`) of float artifacts.
_LIMITS = {"float32": 0.01, "fp16": 0.05}

# Quantization steps by which the model's outputs may vary while the artifact's stay constant: one for
# rounding, one for arithmetic.
_LOST = 2


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking a file: `problems` are reasons to refuse it, `notes` are hints only."""

    images: int
    agreements: tuple[Agreement, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """What an artifact is compared with.

    `images` is float32 (B, H, W, 3) in 0..255, `format` the recipe's. `decoder` applies the same NMS as the
    artifact; None when the artifact contains no NMS.
    """

    model: keras.Model
    images: np.ndarray
    format: str
    decoder: Decoder | None = None


class _RefusedError(Exception):
    """Ends the writing of files without giving them their final names."""


def write_checked(
    file: Path, flatbuffer: bytes, reference: Reference, beside: Callable[[Checked], str]
) -> Checked:
    """Writes an artifact and the .json of the same name, unless the check of the artifact finds problems.

    Both files get their names at the end, or neither does and earlier files stay.

    Args:
        file: the artifact's path.
        flatbuffer: its content.
        reference: what it is compared with.
        beside: returns the text of the .json for the result of the check.

    Raises:
        EffkerasError: a file cannot be written, for instance because the disk is full.
    """
    checked = Checked(0)
    try:
        with whole_file(file.with_suffix(".json")) as text, whole_file(file) as aside:
            aside.write_bytes(flatbuffer)
            checked = check_file(aside, reference)
            if checked.problems:
                raise _RefusedError
            text.write_text(beside(checked), encoding="utf-8")
            # A kill between the two renames leaves an artifact without a .json, never with that of another.
            file.with_suffix(".json").unlink(missing_ok=True)
    except _RefusedError:
        pass
    return checked


def check_file(file: Path, reference: Reference) -> Checked:
    """Reads a .tflite back, runs it and compares it with its model."""
    images = reference.images
    try:
        runner = LiteRTModel.open(file)
        got = {**runner(images), **_heads_inside(runner, images)}
    except (EffkerasError, RuntimeError, ValueError) as error:
        return Checked(len(images), problems=(f"it does not run: {first_line(error)}",))
    wanted = _outputs(reference.model, images)
    found = tuple(agreements(wanted, got, reference.decoder))
    problems = [*_not_numbers(got), *_constant(wanted, got, _outputs_of(runner))]
    notes = [] if problems else list(_constant_model(wanted))
    problems += [] if problems else _too_far(found, reference.format)
    return Checked(len(images), found, tuple(problems), tuple(notes))


def _heads_inside(runner: LiteRTModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """The head outputs before the NMS inside an artifact: near ties in NMS do not change them."""
    places = {
        tensor.name: tensor.index
        for op in operators(runner.flatbuffer)
        for tensor in op.inputs
        if tensor.name in HEADS and BOXES in runner.roles.values()
    }
    if not places:
        return {}
    interpreter = make_interpreter(with_outputs(runner.flatbuffer, places.values()))
    rows = [_read(interpreter, places, image) for image in images]
    return {name: np.concatenate([row[name] for row in rows]) for name in places}


def _read(interpreter: Any, places: dict[str, int], image: np.ndarray) -> dict[str, np.ndarray]:
    (entry,) = interpreter.get_input_details()
    interpreter.set_tensor(entry["index"], quantized_pixels(image[None], entry["dtype"]))
    interpreter.invoke()
    return {name: interpreter.get_tensor(index) for name, index in places.items()}


def _outputs(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The model's outputs, one image at a time: a batch of large images would not fit into memory."""
    predictor = KerasPredictor(model, spec_of(model))
    rows = [predictor.once(image[None]) for image in track(images, "comparing with the model")]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _not_numbers(got: Outputs) -> Iterator[str]:
    for name, values in got.items():
        bad = int(np.size(values) - np.isfinite(values).sum())
        if bad:
            yield f"{bad} of {values.size} values of {name} are NaN or infinite"


def _outputs_of(runner: LiteRTModel) -> dict[str, IOTensor]:
    """The artifact's outputs, by their role or else their name."""
    return {runner.roles.get(one.name, one.name): one for one in interface(runner.flatbuffer).outputs}


def _constant(wanted: Outputs, got: Outputs, outputs: Mapping[str, IOTensor]) -> Iterator[str]:
    """Reports outputs that do not depend on the image, although the model's do by more than rounding.

    The model's outputs are clipped to the quantization range: int8 probabilities end at 255/256.
    """
    for name, values in _image_dependent(got).items():
        model = wanted.get(name, wanted.get("class_logits", values))
        rounding = ROUNDING * float(np.abs(model).max())
        if name in outputs:
            rounding = max(_LOST * (outputs[name].scale or 0.0), rounding)
            model = np.clip(model, *outputs[name].limits) if name in wanted else model
        if len(values) > 1 and spread(values) == 0 and spread(model) > rounding:
            yield f"{name} is the same for all of {len(values)} images, and the model's is not"


def _image_dependent(got: Outputs) -> dict[str, np.ndarray]:
    """The outputs that must differ between images; of the outputs of NMS, only the scores."""
    return {name: values for name, values in got.items() if name not in (BOXES, CLASSES, COUNT)}


def _constant_model(wanted: Outputs) -> Iterator[str]:
    for name, values in wanted.items():
        if len(values) > 1 and spread(values) <= ROUNDING * float(np.abs(values).max()):
            yield f"{name} of the model itself hardly depends on the image: is it trained?"


def _too_far(found: tuple[Agreement, ...], recipe: str) -> list[str]:
    limit = _LIMITS.get(recipe)
    if limit is None:
        return []
    return [
        f"as {recipe} it should compute what the model computes, but: {one}"
        for one in found
        if one.output != BOXES and not one.error <= limit
    ]
