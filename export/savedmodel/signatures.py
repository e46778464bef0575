"""The tf.Module of the SavedModel, its signatures, and the files in assets/ that describe them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from effkeras.definitions.definition import ModelSpec
from effkeras.detection.nms import HEADS
from effkeras.inference.artifacts.saved_model import DEFAULT, DEFINITION, LABELS, RAW
from effkeras.inference.task import tasks_of
from effkeras.litert.convert import output_names
from effkeras.support.errors import EffkerasError
from export.savedmodel.image_files import decode_image
from export.savedmodel.processing import (
    OUTSIDE,
    Placement,
    Tensors,
    classes_of,
    detections_of,
    mask_of,
    names_of,
    place,
    untouched,
)

if TYPE_CHECKING:
    import keras


_PLACEMENT = Placement(
    tf.TensorSpec((2,), tf.float64), tf.TensorSpec((2,), tf.float64), tf.TensorSpec((2,), tf.int64)
)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of the module: its name, its input, and its function."""

    name: str
    takes: tf.TensorSpec
    call: Callable[[Any], Tensors]

    def traced(self) -> Any:
        """Traces the function to a concrete function."""
        return tf.function(self.call, input_signature=[self.takes], autograph=False).get_concrete_function()


class Answering(tf.Module):
    """A model with preprocessing and postprocessing, in TensorFlow operations only.

    Its methods take images and return results as in `effkeras.inference.predict`: `detections_of` and masks
    for a detector, `classes_of` for a classifier. Boxes are in pixels of the given image.
    """

    def __init__(self, model: keras.Model, spec: ModelSpec, min_score: float):
        super().__init__()
        self._spec = spec
        self._min_score = min_score
        pixels = tf.TensorSpec((None, *spec.input.size, 3), tf.float32, "pixels")
        self._variables = [variable.value for variable in model.variables]
        self._network = tf.function(_heads(model), input_signature=[pixels], autograph=False)

    def images(self, images: Any) -> Tensors:
        """Results for a batch of images of any common size, uint8 (B, h, w, 3)."""
        pixels, placement = place(images, self._spec.input)
        return self._answers(pixels, _repeated(placement, tf.shape(pixels)[0]))

    def image(self, image: Any) -> Tensors:
        """Results for one image, uint8 (h, w, 3)."""
        return _first(self.images(image[None]))

    def sized(self, pixels: Any) -> Tensors:
        """Results for images that already have the network's input size, uint8 (B, H, W, 3)."""
        pixels, placement = untouched(pixels, self._spec.input)
        return self._answers(pixels, _repeated(placement, tf.shape(pixels)[0]))

    def encoded(self, contents: Any) -> Tensors:
        """Results for JPEG or PNG files, string (B,); their sizes may differ."""
        pixels = tf.TensorSpec((*self._spec.input.size, 3), tf.float32)
        placed = tf.map_fn(self._read, contents, fn_output_signature=(pixels, _PLACEMENT))
        return self._answers(*placed)

    def encoded_single(self, contents: Any) -> Tensors:
        """Results for one file, a scalar string."""
        return _first(self.encoded(contents[None]))

    def raw(self, pixels: Any) -> Tensors:
        """The network's raw outputs for float32 (B, H, W, 3), pixels 0..255."""
        return self._network(pixels)

    def signatures(self) -> tuple[Signature, ...]:
        """All signatures of the module."""
        height, width = self._spec.input.size
        sized = (None, height, width, 3)
        return (
            Signature(DEFAULT, tf.TensorSpec((None, None, None, 3), tf.uint8, "images"), self.images),
            Signature("single", tf.TensorSpec((None, None, 3), tf.uint8, "image"), self.image),
            Signature("encoded", tf.TensorSpec((None,), tf.string, "image_bytes"), self.encoded),
            Signature("encoded_single", tf.TensorSpec((), tf.string, "image_bytes"), self.encoded_single),
            Signature("sized", tf.TensorSpec(sized, tf.uint8, "pixels"), self.sized),
            Signature(RAW, tf.TensorSpec(sized, tf.float32, "pixels"), self.raw),
        )

    def _read(self, contents: Any) -> tuple[Any, Placement]:
        pixels, placement = place(decode_image(contents)[None], self._spec.input)
        return pixels[0], placement

    def _answers(self, pixels: Any, placements: Placement) -> Tensors:
        """Results for pixels (B, H, W, 3) and placements with a first dimension B."""
        outputs = self._network(pixels)
        by_task = {"classification": self._classes, "detection": self._boxes, "segmentation": self._masks}
        answers: Tensors = {}
        for task in tasks_of(self._spec):
            if task not in by_task:
                raise EffkerasError(f"{self._spec.name}: a SavedModel has no results of the task {task}")
            answers |= by_task[task](outputs, placements)
        return answers

    def _classes(self, outputs: Mapping[str, Any], placements: Placement) -> Tensors:
        (scores,) = outputs.values()
        return classes_of(scores, self._spec)

    def _boxes(self, outputs: Mapping[str, Any], placements: Placement) -> Tensors:
        def one(of: tuple[Tensors, Placement]) -> Tensors:
            return detections_of(*of, self._spec, self._min_score)

        heads = {name: outputs[name] for name in HEADS}
        kinds = {"boxes": tf.float32, "scores": tf.float32, "classes": tf.int32}
        kinds |= {"labels": tf.string, "count": tf.int32}
        return tf.map_fn(one, (heads, placements), fn_output_signature=kinds)

    def _masks(self, outputs: Mapping[str, Any], placements: Placement) -> Tensors:
        """Masks (B, h, w), where h and w are the maxima over the images, and each image's size (B, 2)."""
        largest = tf.reduce_max(placements.size, axis=0)

        def one(of: tuple[Any, Placement]) -> Any:
            logits, placement = of
            missing = largest - placement.size
            return tf.pad(
                mask_of(logits, placement), [[0, missing[0]], [0, missing[1]]], constant_values=OUTSIDE
            )

        masks = tf.map_fn(one, (outputs["mask_logits"], placements), fn_output_signature=tf.uint8)
        return {"masks": masks, "sizes": placements.size}


def _heads(model: keras.Model) -> Callable[[Any], Tensors]:
    """The model as a function that returns its outputs by name, float32, without the auxiliary head."""
    names = output_names(model)

    def call(pixels: Any) -> Tensors:
        outputs = model(pixels, training=False)
        if not isinstance(outputs, dict):
            outputs = {names[0]: outputs}
        return {name: tf.cast(outputs[name], tf.float32) for name in names}

    return call


def _repeated(placement: Placement, count: Any) -> Placement:
    return Placement(*(tf.tile(value[None], [count, 1]) for value in placement))


def _first(answers: Tensors) -> Tensors:
    return {name: values[0] for name, values in answers.items()}


README = "assets/README.md"
_OPEN = {0: "", 1: "B", 2: "hw", 3: "Bhw"}  # names of a shape's dynamic dimensions, by their number


def assets(spec: ModelSpec, signatures: Iterable[Signature], answers: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the files by path in the SavedModel; `answers` are the default signature's outputs."""
    return {
        DEFINITION: spec.to_toml(),
        LABELS: "".join(f"{name}\n" for name in names_of(spec)),
        README: "\n".join(_readme(spec, signatures, answers)) + "\n",
    }


def described(tensor: Any) -> str:
    """A tensor's type and shape, such as "uint8, B x h x w x 3"."""
    shape = tensor.shape.as_list()
    names = iter(_OPEN[shape.count(None)])
    sides = [next(names) if side is None else str(side) for side in shape]
    return f"{tensor.dtype.name}, {' x '.join(sides) or 'one'}"


def _readme(spec: ModelSpec, signatures: Iterable[Signature], answers: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {spec.name}: a TensorFlow SavedModel\n"
    yield "Images are RGB; encoded ones are JPEG or PNG. Resizing and normalisation happen inside.\n"
    yield "| signature | input | takes |\n| --- | --- | --- |"
    for one in signatures:
        yield f"| `{one.name}` | `{one.takes.name}` | {described(one.takes)} |"
    height, width = spec.input.size
    yield f"\nThe caller brings images for `sized` and `raw` to {height} x {width} pixels; `raw` gives what"
    yield "the network itself says. The others answer alike, without B where they take one image:\n"
    yield "| answer | type | meaning |\n| --- | --- | --- |"
    for name, meaning in _meanings().items():
        if name in answers:
            yield f"| `{name}` | {described(answers[name])} | {meaning} |"


def _meanings() -> dict[str, str]:
    text = resources.files("export.savedmodel") / "answers.toml"
    return tomllib.loads(text.read_text(encoding="utf-8"))
