"""Other labels or another calibration of scores in an exported file, whose metadata is then written anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from effkeras.litert.flatbuffer import attach_all
from effkeras.litert.runner import DEFINITION, definition_of
from export.metadata.attaching import attach, read
from export.metadata.builders import CALIBRATION_FILE, IDENTITY, Extras, of_classifier, of_detector
from export.metadata.notes import Metadata, Normalization, ScoreCalibration, TensorNote


def with_labels(flatbuffer: bytes, labels: tuple[str, ...]) -> bytes:
    """An exported file with other names of its classes, in its metadata and in its definition.

    The network, all other entries and what the metadata says else (normalisation, calibration of scores,
    version, author, license) stay.

    Args:
        flatbuffer: the content of the file.
        labels: one for each class, in the model's order.

    Raises:
        EffkerasError: not as many labels as classes, effkeras did not export the file, or it is damaged.
    """
    spec = definition_of(flatbuffer).replace(labels=labels)
    old = read(flatbuffer)
    named = attach_all(flatbuffer, {DEFINITION: spec.to_toml().encode()})
    describe = of_detector if spec.is_detector else of_classifier
    made = describe(spec, labels, named, Extras() if old is None else _extras(old))
    if old is not None:
        made = replace(made, version=old.version, author=old.author, license=old.license)
    return attach(named, made)


def _extras(old: Metadata) -> Extras:
    """What metadata says that the file itself does not tell."""
    normalization = next((one for note in old.inputs for one in _normalizations(note)), IDENTITY)
    return Extras(
        normalization, next((one for note in old.outputs for one in _calibrations(note, old)), None)
    )


def _normalizations(note: TensorNote) -> Iterator[Normalization]:
    yield from (unit for unit in note.units if isinstance(unit, Normalization))


def _calibrations(note: TensorNote, old: Metadata) -> Iterator[tuple[ScoreCalibration, bytes]]:
    files = [old.files[file.name] for file in note.files if file.kind == CALIBRATION_FILE]
    units = [unit for unit in note.units if isinstance(unit, ScoreCalibration)]
    yield from zip(units, files, strict=False)
