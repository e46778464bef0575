"""Other labels, or a calibration of scores, in an exported file, whose metadata is then written anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from effkeras.definitions.definition import ModelSpec
from effkeras.litert.flatbuffer import attach_all
from effkeras.litert.runner import DEFINITION, definition_of
from effkeras.support.errors import EffkerasError
from export.metadata.associated_files import labels_in
from export.metadata.attaching import attach, read
from export.metadata.builders import CALIBRATION_FILE, IDENTITY, LABELS, Extras, of_classifier, of_detector
from export.metadata.records import Metadata, Normalization, ScoreCalibration, TensorMetadata


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
    old = read(flatbuffer)
    return _described(flatbuffer, labels, old, Extras() if old is None else _extras(old))


def with_calibration(flatbuffer: bytes, how: ScoreCalibration, parameters: bytes) -> bytes:
    """An exported file whose metadata calibrates its scores, in place of an older calibration.

    All else stays, as in `with_labels`.

    Args:
        flatbuffer: the content of the file.
        how: what is done to a score before, and what scores without parameters become.
        parameters: a line for each class; see `export.metadata.associated_files`.

    Raises:
        EffkerasError: not as many lines as classes, or such as are no parameters; the model has no scores;
            effkeras did not export the file, or it is damaged.
    """
    old, spec = read(flatbuffer), definition_of(flatbuffer)
    extras = replace(Extras() if old is None else _extras(old), calibration=(how, parameters))
    made = _described(flatbuffer, _labels(old, spec), old, extras)
    found = read(made)
    if found is None or not any(True for note in found.outputs for _ in _calibrations(note, found)):
        raise EffkerasError(f"{spec.name} has no scores of classes, which alone can be calibrated")
    return made


def _described(flatbuffer: bytes, labels: tuple[str, ...], old: Metadata | None, extras: Extras) -> bytes:
    """The file with new metadata, and with the labels in its definition too."""
    spec = definition_of(flatbuffer).replace(labels=labels)
    named = attach_all(flatbuffer, {DEFINITION: spec.to_toml().encode()})
    made = (of_detector if spec.is_detector else of_classifier)(spec, labels, named, extras)
    if old is not None:
        made = replace(made, version=old.version, author=old.author, license=old.license)
    return attach(named, made)


def _labels(old: Metadata | None, spec: ModelSpec) -> tuple[str, ...]:
    """The names of the classes; those in the metadata come first, where both are there."""
    if old is None or LABELS not in old.files:
        return spec.labels
    return labels_in(old.files[LABELS], LABELS)


def _extras(old: Metadata) -> Extras:
    """What metadata says that the file itself does not tell."""
    normalization = next((one for note in old.inputs for one in _normalizations(note)), IDENTITY)
    return Extras(
        normalization, next((one for note in old.outputs for one in _calibrations(note, old)), None)
    )


def _normalizations(note: TensorMetadata) -> Iterator[Normalization]:
    yield from (unit for unit in note.units if isinstance(unit, Normalization))


def _calibrations(note: TensorMetadata, old: Metadata) -> Iterator[tuple[ScoreCalibration, bytes]]:
    files = [old.files[file.name] for file in note.files if file.kind == CALIBRATION_FILE]
    units = [unit for unit in note.units if isinstance(unit, ScoreCalibration)]
    yield from zip(units, files, strict=False)
