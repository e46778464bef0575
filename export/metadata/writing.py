"""A file whose papers changed gets its name only when it reads back and still computes what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effkeras.errors import EffkerasError, first_line
from effkeras.files import whole_file
from effkeras.litert.edge_tpu import is_compiled
from effkeras.litert.flatbuffer import attached
from effkeras.litert.runner import DEFINITION, definition_of, make_interpreter, read_flatbuffer
from export.delegates.interpreter import with_pictures
from export.metadata.attaching import read


def write_rewritten(file: Path, flatbuffer: bytes, before: bytes) -> None:
    """Writes a file that differs from `before` in its metadata, entries and associated files alone.

    It is read back as it lies on the disk and run on one picture, as far as LiteRT runs it here: what is
    compiled for an Edge TPU only reads back. What was there stays when the look finds something.

    Args:
        file: the path.
        flatbuffer: the content.
        before: the content of a file with the same network.

    Raises:
        EffkerasError: it does not read back or computes something else, or it cannot be written.
    """
    with whole_file(file) as aside:
        aside.write_bytes(flatbuffer)
        try:
            _look(read_flatbuffer(aside), before)
        except EffkerasError as error:
            raise EffkerasError(f"{file} is not written, as it would be damaged: {error}") from error


def _look(found: bytes, before: bytes) -> None:
    read(found)
    if attached(found, DEFINITION) is not None:
        definition_of(found)
    if is_compiled(found):
        return
    try:
        wanted = _outputs(before)
    except EffkerasError:
        return  # it has operators that LiteRT alone does not run
    for one, other in zip(wanted, _outputs(found), strict=True):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise EffkerasError("it does not compute what it did before")


def _outputs(flatbuffer: bytes) -> list[np.ndarray]:
    interpreter = make_interpreter(flatbuffer)
    try:
        with_pictures(interpreter, flatbuffer).run()
    except (RuntimeError, ValueError) as error:
        raise EffkerasError(f"it does not run ({first_line(error)})") from error
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
