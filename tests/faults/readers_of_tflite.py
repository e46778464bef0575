"""What reads a .tflite that another tool made: to run it, for its metadata, for the names of its classes."""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np

from faults.damage import plain
from faults.reader import Reader, damage_flatbuffer, with_text

_MOST_PIXELS = 1 << 20  # of an input that is run: a file may ask for images of any size
_LABELS = "0 cat\n1 dog\n\n3: Straße\n"
_MAP = "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  id: 4\n  display_name: \"dog\"\n}\n"


@functools.cache
def _classifier() -> bytes:
    """A small classifier with metadata and labels, in which nobody finds our definition."""
    from support.small_tflite import small_tflite

    from effkeras.litert.runner import DEFINITION

    return small_tflite().replace(DEFINITION.encode(), b"x" * len(DEFINITION))


@functools.cache
def _detector() -> bytes:
    """A detector with 12 anchors, 4 classes, metadata, labels and the operator that suppresses boxes."""
    from support.handmade import Op, Tensor, flatbuffer

    from effkeras.definitions import zoo
    from effkeras.definitions.definition import NmsSpec
    from effkeras.detection.nms import BOXES, CLASSES, COUNT, HEADS, SCORES
    from effkeras.litert.editor import GraphEditor
    from effkeras.litert.metadata.coding import DETECTOR_ENTRY, detector_options
    from effkeras.litert.rewriting import name_interface
    from export.metadata import (
        AssociatedFile,
        Content,
        Image,
        Metadata,
        Normalization,
        TensorMetadata,
        attach,
    )
    from export.nms import Heads, Settings, postprocess

    pixels, shape = Tensor((1, 4, 4, 3), "float32"), Tensor.constant([1, 12, 4])
    heads = [Tensor((1, 12, 4), "float32") for _ in HEADS]
    ops = [Op("RESHAPE", [pixels, shape], [one], "ReshapeOptions", {"newShape": [1, 12, 4]}) for one in heads]
    editor = GraphEditor(name_interface(flatbuffer(*ops), ["image"], HEADS))
    settings = Settings(np.full((12, 4), 0.5, np.float32), NmsSpec(max_detections=3))
    kept = postprocess(editor, Heads(*map(editor.output, HEADS)), settings)
    outputs = {BOXES: kept.boxes, CLASSES: kept.classes, SCORES: kept.scores, COUNT: kept.count}
    editor.set_outputs(outputs)
    image = Content(Image("RGB", (4, 4)))
    labels = (AssociatedFile("labels.txt", "TENSOR_VALUE_LABELS"),)
    names = ("location", "category", "score", "number of detections")
    metadata = Metadata(
        name="theirs",
        inputs=(TensorMetadata("image", content=image, units=(Normalization((127.5,), (127.5,)),)),),
        outputs=tuple(TensorMetadata(name, files=labels if name == "category" else ()) for name in names),
        files={"labels.txt": b"cat\ndog\ncow\nbird\n"},
        custom={DETECTOR_ENTRY: detector_options(_small(zoo.spec("efficientdet-digits")))},
    )
    return attach(editor.packed(), metadata)


def _small(spec):
    import dataclasses

    return spec.replace(input=dataclasses.replace(spec.input, size=(32, 32)))


def _make(content):
    def make(folder: Path) -> Path:
        (folder / "theirs.tflite").write_bytes(content())
        return folder / "theirs.tflite"

    return make


def _damage_metadata(content: bytes, chance: random.Random) -> bytes:
    """A whole .tflite with damaged metadata."""
    from effkeras.litert.metadata.coding import TABLE
    from effkeras.litert.rewriting import attach, attached

    table = attached(content, TABLE)
    assert table is not None
    return attach(content, TABLE, plain(table, chance))


def _damage_anchors(content: bytes, chance: random.Random) -> bytes:
    """A whole .tflite with damaged anchors in its metadata."""
    import dataclasses

    from effkeras.litert.metadata.coding import DETECTOR_ENTRY, TABLE, read, to_bytes
    from effkeras.litert.rewriting import attach

    metadata = read(content)
    assert metadata is not None
    custom = {DETECTOR_ENTRY: plain(metadata.custom[DETECTOR_ENTRY], chance)}
    return attach(content, TABLE, to_bytes(dataclasses.replace(metadata, custom=custom)))


def _damage_files(content: bytes, chance: random.Random) -> bytes:
    """A whole .tflite with a damaged file, or a damaged archive of files, behind it."""
    from effkeras.litert.archive import append_files, read_files, without_files

    alone = without_files(content)
    if chance.random() < 0.5:
        return alone + plain(content[len(alone) :], chance)
    return append_files(alone, {name: plain(own, chance) for name, own in read_files(content).items()})


def _run(path: Path) -> None:
    """Opens the file and runs it on an image."""
    from effkeras.litert.foreign.model import ForeignModel

    model = ForeignModel.open(path)
    height, width = model.spec.input.size
    if height * width <= _MOST_PIXELS:
        model(np.full((1, height, width, 3), 100, np.float32))


def _read_metadata(path: Path) -> None:
    """Reads all that the metadata hold, and shows them."""
    import contextlib
    import io

    from effkeras.litert.foreign.labels import labels_of
    from effkeras.litert.metadata.coding import read
    from export.inspect import show
    from export.inspection import inspect

    content = path.read_bytes()
    labels_of(read(content))
    with contextlib.redirect_stdout(io.StringIO()):
        show("a file", inspect(content))


def _read_labels(path: Path) -> None:
    from effkeras.litert.foreign.labels import names_for, read_label_file
    from effkeras.litert.foreign.options import ForeignOptions

    names_for(4, ForeignOptions(labels=read_label_file(str(path))), None, is_detector=True)


_LAYERS = [damage_flatbuffer, damage_flatbuffer, _damage_metadata, _damage_files]
OF_TFLITE: dict[str, Reader] = {
    "foreign classifier": Reader(_make(_classifier), _run, _LAYERS),
    "foreign detector": Reader(_make(_detector), _run, _LAYERS),
    "foreign labels": Reader(with_text("labels.txt", _LABELS), _read_labels),
    "foreign label map": Reader(with_text("labels.pbtxt", _MAP), _read_labels),
    "TFLite metadata": Reader(
        _make(_detector), _read_metadata, [_damage_metadata, _damage_anchors, _damage_files]
    ),
}
