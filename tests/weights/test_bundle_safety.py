"""TensorFlow checkpoints that declare more than they hold are refused before TensorFlow allocates it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from support.checkpoint_writer import write_checkpoint
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

from effkeras.support.errors import EffkerasError
from effkeras.weights import bundle_safety
from effkeras.weights.tf_checkpoints import TfArrays

VALUES = {"a/kernel": np.arange(15, dtype=np.float32).reshape(3, 5), "b/bias": np.ones(7, np.float32)}


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return body + struct.pack("<II", 0, 1)


def checked(content: bytes) -> bytes:
    """A block with its type and masked checksum."""
    crc = google_crc32c.value(content + b"\0")
    return content + b"\0" + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crafted(folder: Path, change: Callable[[BundleEntryProto], None]) -> Path:
    """A checkpoint whose index has valid checksums and one changed entry."""
    prefix = write_checkpoint(folder, VALUES)
    index = Path(f"{prefix}.index")
    entries = dict(bundle_safety._entries(index.read_bytes()))
    entry = BundleEntryProto.FromString(entries[b"a/kernel"])
    change(entry)
    entries[b"a/kernel"] = entry.SerializeToString()
    data, meta = block(sorted(entries.items())), block([])
    start = len(checked(data))
    top = block([(b"c", varint(0) + varint(len(data)))])
    handles = varint(start) + varint(len(meta)) + varint(start + len(checked(meta))) + varint(len(top))
    footer = handles.ljust(40, b"\0") + bundle_safety._MAGIC
    index.write_bytes(checked(data) + checked(meta) + checked(top) + footer)
    return prefix


def test_a_crafted_index_without_a_change_is_read(tmp_path):
    arrays = TfArrays(crafted(tmp_path, lambda entry: None))
    for name, value in VALUES.items():
        np.testing.assert_array_equal(arrays.read(name), value)


def huge(entry: BundleEntryProto) -> None:
    for dim in entry.shape.dim:
        dim.size = 100_000


def huge_and_so_it_says(entry: BundleEntryProto) -> None:
    huge(entry)
    entry.size = 40_000_000_000


def behind_the_end(entry: BundleEntryProto) -> None:
    entry.offset = 1000


def another_file(entry: BundleEntryProto) -> None:
    entry.shard_id = 7


def texts(entry: BundleEntryProto) -> None:
    huge(entry)
    entry.dtype = 7


def negative(entry: BundleEntryProto) -> None:
    entry.shape.dim[0].size = -1


@pytest.mark.parametrize("change", [huge, huge_and_so_it_says, behind_the_end, another_file, texts, negative])
def test_what_lies_outside_the_data_file_is_refused(change, tmp_path):
    with pytest.raises(
        EffkerasError, match=r"not safe to read: a/kernel|is not a readable TensorFlow checkpoint"
    ):
        TfArrays(crafted(tmp_path, change))


def test_a_path_in_the_checkpoint_file_is_not_followed(tmp_path):
    """The file `checkpoint` comes with the weights, and could name any other on the machine."""
    write_checkpoint(tmp_path / "secret", {"secret": np.ones(3, np.float32)})
    folder = tmp_path / "given"
    prefix = write_checkpoint(folder, VALUES)
    for named in (tmp_path / "secret" / "model", Path("../secret/model")):
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "{named}"\n')
        assert TfArrays(folder).names() == set(VALUES)
    for file in folder.glob("model.*"):
        file.rename(file.with_name(file.name.replace("model", "other")))
    assert TfArrays(folder).names() == set(VALUES)
    assert prefix.name == "model"
