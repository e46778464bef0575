"""Runs .tflite files of other tools: classifiers, and detectors with the four outputs of SSD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import (
    AnchorSpec,
    FpnSpec,
    HeadSpec,
    InputSpec,
    ModelSpec,
    NmsSpec,
)
from effkeras.detection.nms import BOXES, CLASSES, COUNT, SCORES
from effkeras.graph.networks.external import ExternalNetwork
from effkeras.litert.flatbuffer import IOTensor, gives_probabilities, interface, operators
from effkeras.litert.foreign.labels import MOST_CLASSES, labels_of, names_for
from effkeras.litert.foreign.options import NOTHING, ForeignOptions
from effkeras.litert.foreign.pixels import PixelInput, pixel_input
from effkeras.litert.metadata.coding import read
from effkeras.litert.metadata.records import Metadata
from effkeras.litert.runner import dequantized, make_interpreter, read_flatbuffer
from effkeras.support.errors import EffkerasError, first_line

POST_PROCESS = "TFLite_Detection_PostProcess"
_OF_POST_PROCESS = (BOXES, CLASSES, SCORES, COUNT)
# The names of a detector's outputs in signatures, and in TFLite Metadata.
_NAMES = {
    **{role: role for role in _OF_POST_PROCESS},
    **{"location": BOXES, "category": CLASSES, "score": SCORES, "number of detections": COUNT},
}
_KNOWN = (
    "known are classifiers, with one output [1, classes], and detectors, with the four outputs of "
    f"{POST_PROCESS}"
)
_SCORES = ("float32", "float16", "int8", "uint8", "int16")  # number formats of a classifier's output


@dataclass(frozen=True, eq=False, slots=True)
class ForeignModel:
    """A .tflite of another tool: a `Predictor`.

    `spec` stands for the definition that the file lacks: its name is the file's, and only its input, its
    classes and the kind of its outputs mean something. `roles` names each output, in the graph's order.
    """

    spec: ModelSpec
    interpreter: Any
    entry: PixelInput
    roles: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, options: ForeignOptions = NOTHING) -> ForeignModel:
        """Opens a file.

        Raises EffkerasError if it is missing or corrupt, or where neither its metadata nor the options tell
        what its numbers mean.
        """
        try:
            return cls.of_bytes(read_flatbuffer(path), path.stem, options)
        except EffkerasError as error:
            raise error if str(path) in str(error) else EffkerasError(f"{path}: {error}") from error

    @classmethod
    def of_bytes(cls, flatbuffer: bytes, name: str, options: ForeignOptions = NOTHING) -> ForeignModel:
        """Like `open`, from a file's content."""
        interpreter = make_interpreter(flatbuffer)
        found, metadata = interface(flatbuffer), read(flatbuffer)
        if len(found.inputs) != 1:
            raise EffkerasError(f"it has {len(found.inputs)} inputs; {_KNOWN}, of one image")
        roles, classes = _roles(flatbuffer, found.outputs, metadata)
        is_detector = len(roles) > 1
        names = names_for(classes, options, labels_of(metadata), is_detector=is_detector)
        if not is_detector and not names and roles[0] != "probabilities":
            raise EffkerasError(
                f"it gives {classes:,} numbers that are no probabilities, and nothing says of what; "
                "give --labels if they are scores of classes"
            )
        entry = pixel_input(found.inputs[0], metadata, options)
        _resize(interpreter, entry)
        spec = _spec(name, entry, max(classes, len(names), 1), names, is_detector)
        return cls(spec, interpreter, entry, roles)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for float32 (B, H, W, 3) pixels 0..255, image by image."""
        rows = [self._one(image[None]) for image in pixels]
        outputs = {
            role: np.concatenate([row[place] for row in rows]) for place, role in enumerate(self.roles)
        }
        if CLASSES in outputs:
            self._check_shapes(outputs, len(pixels))
            outputs[COUNT] = np.nan_to_num(outputs[COUNT])
            self._check_classes(outputs)
            return outputs
        return {name: values.reshape(len(pixels), -1) for name, values in outputs.items()}

    def _one(self, pixels: np.ndarray) -> list[np.ndarray]:
        (entry,) = self.interpreter.get_input_details()
        self.interpreter.set_tensor(entry["index"], self.entry(pixels))
        try:
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise EffkerasError(f"LiteRT cannot run {self.spec.name} ({first_line(error)})") from error
        details = self.interpreter.get_output_details()
        return [np.atleast_1d(_real(self.interpreter.get_tensor(one["index"]), one)) for one in details]

    def _check_shapes(self, outputs: Mapping[str, np.ndarray], images: int) -> None:
        most = outputs[SCORES].shape[-1]
        wanted = {BOXES: (images, most, 4), CLASSES: (images, most), SCORES: (images, most), COUNT: (images,)}
        found = {role: values.shape for role, values in outputs.items()}
        if found != wanted:
            raise EffkerasError(
                f"{self.spec.name} gives {found}, which are no boxes of one image each; {_KNOWN}"
            )

    def _check_classes(self, outputs: Mapping[str, np.ndarray]) -> None:
        for row, count in zip(outputs[CLASSES], outputs[COUNT], strict=True):
            found = row[: int(count)]
            if self.spec.labels and len(found) and not 0 <= found.min() <= found.max() < self.spec.classes:
                raise EffkerasError(
                    f"{self.spec.name} finds class {found.max():.0f}, and its labels name "
                    f"{self.spec.classes}; give --labels with all, or another --classes-offset"
                )


def _real(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """The real values of an output; codes that no scale explains are taken as they are."""
    if values.dtype.kind != "f" and not details["quantization"][0]:
        return values.astype(np.float32)
    return dequantized(values, details)


def _roles(
    flatbuffer: bytes, outputs: Sequence[IOTensor], metadata: Metadata | None
) -> tuple[tuple[str, ...], int]:
    """What each output holds, and the number of classes; 0 for a detector that does not tell it."""
    if len(outputs) == 1:
        shape = outputs[0].shape
        classes = shape[-1] if shape else 0
        if classes < 2 or any(side != 1 for side in shape[:-1]) or outputs[0].dtype not in _SCORES:
            raise EffkerasError(f"its output is {outputs[0].dtype} {list(shape)}; {_KNOWN}")
        return (("probabilities" if gives_probabilities(flatbuffer) else "logits"),), classes
    notes = () if metadata is None else metadata.outputs
    described = [note.name for note in notes] if len(notes) == len(outputs) else [""] * len(outputs)
    suppresses = next((op for op in operators(flatbuffer) if op.name == POST_PROCESS), None)
    made = [] if suppresses is None else [tensor.index for tensor in suppresses.outputs]
    of_operator = dict(zip(made, _OF_POST_PROCESS, strict=False))
    roles = tuple(
        of_operator.get(tensor.tensor) or _NAMES.get(tensor.name) or _NAMES.get(name.casefold(), "")
        for tensor, name in zip(outputs, described, strict=True)
    )
    given = () if suppresses is None else suppresses.inputs[1:2]  # the scores, (1, anchors, classes)
    classes = next((tensor.shape[-1] for tensor in given if tensor.shape), 0)
    if sorted(roles) != sorted(_OF_POST_PROCESS):
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in outputs)
        raise EffkerasError(f"its outputs are {shapes}; {_KNOWN}")
    return roles, min(max(classes, 0), MOST_CLASSES)


def _resize(interpreter: Any, entry: PixelInput) -> None:
    (details,) = interpreter.get_input_details()
    shape = (1, *entry.size, 3)
    if tuple(details["shape"]) != shape:
        try:
            interpreter.resize_tensor_input(details["index"], shape)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise EffkerasError(f"it does not take images of {entry.size}: {first_line(error)}") from error


def _spec(
    name: str, entry: PixelInput, classes: int, labels: tuple[str, ...], is_detector: bool
) -> ModelSpec:
    """A definition in place of the file's: classifiers see the central square, detectors the whole image."""
    spec = ModelSpec(
        name=name,
        family="efficientdet" if is_detector else "application",
        input=InputSpec(entry.size, entry.mean, entry.std, "letterbox" if is_detector else "center-crop"),
        network=ExternalNetwork(("output",)),
        classes=classes,
        labels=labels,
    )
    if not is_detector:
        return spec
    return replace(spec, fpn=FpnSpec(), head=HeadSpec(), anchors=AnchorSpec(), nms=NmsSpec())
