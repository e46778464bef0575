"""What travels beside the graph: the definition, the names of the classes, and how to call it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

from effkeras.definitions.definition import ModelSpec
from effkeras.inference.artifacts.saved_model import DEFINITION, LABELS
from export.savedmodel.postprocess import names_of
from export.savedmodel.signatures import Signature

README = "assets/README.md"
_OPEN = {0: "", 1: "B", 2: "hw", 3: "Bhw"}  # names of a shape's open sides, by their number


def assets(spec: ModelSpec, signatures: Iterable[Signature], answers: Mapping[str, Any]) -> dict[str, str]:
    """The files by their path in the SavedModel; `answers` are the tensors of the default signature."""
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
