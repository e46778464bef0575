from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as some

from effkeras import EffkerasError
from effkeras.litert.archive import append_files, read_files, without_files

NAMES = some.text(some.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
BODY = b"\x1c\0\0\0TFL3 stands for a flatbuffer"


@given(some.dictionaries(NAMES, some.binary(max_size=100), min_size=1, max_size=4))
def test_files_come_back_and_the_flatbuffer_stays(files):
    made = append_files(BODY, files)
    assert made.startswith(BODY)
    assert read_files(made) == files
    assert without_files(made) == BODY
    assert append_files(BODY, files) == made  # no clock in it


def test_without_files_nothing_is_appended():
    assert append_files(BODY, {}) == without_files(BODY) == BODY
    assert read_files(BODY) == {}


def test_files_are_stored_as_they_are():
    with zipfile.ZipFile(io.BytesIO(append_files(BODY, {"labels.txt": b"cat\n" * 1000}))) as archive:
        assert [entry.compress_type for entry in archive.infolist()] == [zipfile.ZIP_STORED]
        assert archive.testzip() is None


def test_compressed_files_of_others_are_read():
    out = io.BytesIO(BODY)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", b"cat\n" * 1000)
    assert read_files(out.getvalue()) == {"labels.txt": b"cat\n" * 1000}


def bomb(method: int) -> bytes:
    """An archive that says it unpacks to 2 GiB."""
    out = io.BytesIO(BODY)
    with zipfile.ZipFile(out, "a", method) as archive:
        archive.writestr("labels.txt", b"cat\n" * 100)
    data = out.getvalue()
    place = data.rindex(b"PK\1\2") + 24
    return data[:place] + struct.pack("<I", 1 << 31) + data[place + 4 :]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bombs_are_refused(method):
    with pytest.raises(EffkerasError, match="64 MiB"):
        read_files(bomb(method))


def test_other_compressions_are_refused():
    out = io.BytesIO(BODY)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("labels.txt", b"cat\n")
    with pytest.raises(EffkerasError, match="compression"):
        read_files(out.getvalue())


def test_a_changed_byte_is_noticed():
    damaged = append_files(BODY, {"labels.txt": b"cat\ndog\n"}).replace(b"cat\ndog", b"cow\ndog")
    with pytest.raises(EffkerasError, match="damaged"):
        read_files(damaged)
