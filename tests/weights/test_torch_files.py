"""PyTorch's files of tensors are read exactly, and nothing else in a pickle is."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data_sets import damaged
from support.torch_writer import write_pth

from effkeras.support.errors import EffkerasError
from effkeras.weights.torch_files import read_tensors

FORMS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "older form"])
TENSORS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.array([0.5, -2.0], np.float16),
    "steps": np.array(7, np.int64),
}


@FORMS
def test_tensors_are_read_exactly(tmp_path, legacy):
    found = read_tensors(write_pth(tmp_path / "a.pth", TENSORS, legacy=legacy))
    assert list(found) == list(TENSORS)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["a.bias"].dtype == np.float32


@FORMS
def test_tensors_with_other_strides_are_read(tmp_path, legacy):
    turned = np.asfortranarray(TENSORS["a.weight"][0])
    found = read_tensors(write_pth(tmp_path / "a.pth", {"a": turned}, legacy=legacy))
    np.testing.assert_array_equal(found["a"], turned)


def test_bfloat16_is_read(tmp_path):
    bits = (np.array([1.5, -3.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(read_tensors(write_pth(tmp_path / "a", {"a": bits}))["a"], [1.5, -3.0])


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_wrapped_state_dicts_are_found(tmp_path, key):
    tensors = {f"module.{name}": value for name, value in TENSORS.items()}
    path = write_pth(tmp_path / "a.pth", tensors, wrap=lambda content: {"epoch": 3, key: content})
    assert list(read_tensors(path)) == list(TENSORS)


class Evil:
    def __reduce__(self):
        return os.putenv, ("EFFKERAS_UNPICKLED", "1")


@FORMS
@pytest.mark.parametrize(
    "evil", [Evil(), OrderedDict.fromkeys, abs, np.float32(1)], ids=["call", "method", "function", "scalar"]
)
def test_anything_but_tensors_is_refused(tmp_path, legacy, evil):
    path = tmp_path / "a.pth"
    write_pth(path, TENSORS, legacy=legacy, wrap=lambda content: {"a": content, "b": evil})
    with pytest.raises(EffkerasError, match=r"a\.pth needs .* holds more than tensors; save model\.state"):
        read_tensors(path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}])
def test_no_tensors_is_an_error(tmp_path, content):
    path = write_pth(tmp_path / "a.pth", {}, wrap=lambda _: content)
    with pytest.raises(EffkerasError, match="holds no tensors by name"):
        read_tensors(path)


def test_other_pickles_and_archives_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(EffkerasError, match="not a file of PyTorch tensors"):
        read_tensors(tmp_path / "a.pkl")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(EffkerasError, match=r"it has no data\.pkl"):
        read_tensors(tmp_path / "a.zip")


def test_a_storage_that_unpacks_to_more_than_the_file_is_refused(tmp_path):
    path = write_pth(tmp_path / "a.pth", {"a": np.zeros(10**6, np.float32)})
    packed = zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as source, packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    with pytest.raises(EffkerasError, match="not safe to read: its tensors have 4,000,000 bytes"):
        read_tensors(tmp_path / "b.pth")


class Shared:
    """A tuple that holds the tuple before twice, and so on: 60 short instructions, 2 ** 60 leaves."""

    def __init__(self) -> None:
        self.value: tuple = (1,)
        for _ in range(60):
            self.value = (self.value, self.value)


@pytest.mark.parametrize("as_value", [False, True])
def test_keys_whose_hash_takes_for_ever_are_refused(as_value, tmp_path):
    buffer = io.BytesIO()
    pickled = pickle.dumps(Shared().value, 2)[:-1]  # without STOP
    body = pickled[2:]
    pairs = b"K\x01" + body if as_value else body + b"K\x01"
    buffer.write(b"\x80\x02}(" + pairs + b"u.")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("model/data.pkl", buffer.getvalue())
    message = "no tensors by name" if as_value else "a key is a tuple"
    with pytest.raises(EffkerasError, match=message):
        read_tensors(tmp_path / "a.pth")


def test_many_tensors_over_one_storage_are_refused(tmp_path):
    value = np.zeros(1000, np.float32)
    path = write_pth(
        tmp_path / "a.pth",
        {"a": value},
        wrap=lambda found: {f"b{number}": found["a"] for number in range(100)},
    )
    with pytest.raises(EffkerasError, match="not safe to read: its tensors have 400,000 bytes"):
        read_tensors(path)


def test_a_shape_of_huge_numbers_is_refused_at_once(tmp_path):
    path = write_pth(tmp_path / "a.pth", {"a": np.zeros(3, np.float32)})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("model/data.pkl")
    huge = b"\x8b" + (2**20).to_bytes(4, "little") + b"\x7f" * 2**20  # LONG4
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr("model/data.pkl", content.replace(b"K\x03\x85", huge + b"\x85", 1))
    with pytest.raises(EffkerasError, match=r"a tensor with a shape that is no shape|is no storage"):
        read_tensors(tmp_path / "b.pth")


def test_a_member_with_a_broken_compression_is_one_line(tmp_path):
    path = write_pth(tmp_path / "a.pth", {"a": np.zeros(1000, np.float32)})
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            out.writestr(name, source.read(name))
    content = bytearray((tmp_path / "b.pth").read_bytes())
    place = content.index(b"data.pkl") + len(b"data.pkl")
    content[place : place + 8] = b"\xff" * 8
    (tmp_path / "b.pth").write_bytes(content)
    with pytest.raises(EffkerasError, match="not a readable PyTorch file"):
        read_tensors(tmp_path / "b.pth")


@given(st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_only_our_own_errors_come_out_of_damaged_files(legacy, data):
    with tempfile.TemporaryDirectory() as folder:
        path = write_pth(Path(folder, "a.pth"), TENSORS, legacy=legacy)
        content = damaged(data, path.read_bytes())
        path.write_bytes(content)
        try:
            read_tensors(path)
        except EffkerasError as error:
            assert str(path) in str(error)  # noqa: PT017
