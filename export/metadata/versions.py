"""Which parser version understands a model's metadata."""

from __future__ import annotations

from collections.abc import Iterator

from export.metadata.notes import Metadata

OLDEST = "1.0.0"


def parser_version(metadata: Metadata) -> str:
    """The `min_parser_version`: the version of the schema that brought the newest of what is used.

    Source: the history in metadata_schema.fbs.
    """
    return max(_versions(metadata))


def _versions(metadata: Metadata) -> Iterator[str]:
    yield OLDEST
    files = metadata.noted_files
    if any(note.kind == "VOCABULARY" for note in files):
        yield "1.0.1"
    if metadata.groups:
        yield "1.2.0"
    if any(note.kind == "SCANN_INDEX_FILE" for note in files):
        yield "1.4.0"
    if any(note.version for note in files):
        yield "1.4.1"
    if metadata.custom:
        yield "1.5.0"
