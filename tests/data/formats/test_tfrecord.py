"""TFRecord: TensorFlow reads what is written and the other way round; damaged files; unpacking."""

from __future__ import annotations

import gzip
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data_sets import (
    assert_only_our_errors,
    assert_round_trip,
    contents,
    damaged,
    data_set,
)

from effkeras.data import tf_examples
from effkeras.data.formats.tfrecord import TFRecord
from effkeras.data.label_maps import read_label_map
from effkeras.data.records import (
    ClassificationData,
    ClassificationRecord,
    Polygons,
    ReadOptions,
    RunLengths,
)
from effkeras.data.segmentations import pixels_of
from effkeras.data.splits import open_data
from effkeras.data.tf_examples import encode_example, framed, parse_example, read_records
from effkeras.support.errors import EffkerasError

ONE = [((20, 30), [([2.0, 3.0, 12.0, 20.0], 0), ([5.0, 5.0, 9.0, 9.0], 3)])]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))


def written(root: Path, images=ONE, split: str = "train", **changes):
    """A data set of one split, and its records."""
    data = data_set(root / "in", split, images)
    out = root / "out"
    out.mkdir()
    TFRecord().write(out, [data])
    return out, data


def read(root: Path, split: str = "train", **options: bool):
    return TFRecord().read(root, split, ReadOptions(**options))


def shard(root: Path) -> Path:
    return next(root.glob("*.tfrecord-*"))


def changed(root: Path, **features) -> Path:
    """The data set with other features in its first record."""
    path = shard(root)
    first, *others = read_records(path)
    example = parse_example(first)
    for name, values in features.items():
        example[name.replace("__", "/")] = values
    path.write_bytes(b"".join(map(framed, (encode_example(example), *others))))
    return root


@given(contents(), contents())
@settings(max_examples=10, deadline=None)
def test_what_is_written_is_read(train, test):
    assert_round_trip(TFRecord(), train, test, pixels=1e-3)


def test_tensorflow_reads_what_is_written(tmp_path):
    out, _ = written(tmp_path)
    (content,) = tf.data.TFRecordDataset(str(shard(out))).as_numpy_iterator()
    example = tf.train.Example.FromString(content).features.feature
    np.testing.assert_allclose(example["image/object/bbox/xmax"].float_list.value, [20 / 30, 9 / 30])
    assert list(example["image/object/class/text"].bytes_list.value) == [b"red cell", "日本".encode()]
    assert list(example["image/object/class/label"].int64_list.value) == [1, 4]
    pixels = tf.io.decode_image(example["image/encoded"].bytes_list.value[0])
    assert pixels.shape == (20, 30, 3)


def test_what_tensorflow_writes_is_read(tmp_path):
    lists = {
        "bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"", b"\xff\0"])),
        "floats": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, -1e30])),
        "ints": tf.train.Feature(int64_list=tf.train.Int64List(value=[-5, 2**62, 0])),
        "none": tf.train.Feature(),
    }
    message = tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()
    for options in ("", "GZIP"):
        with tf.io.TFRecordWriter(str(tmp_path / "a"), options) as writer:
            writer.write(message)
        (content,) = read_records(tmp_path / "a")
        found = parse_example(content)
        assert found["bytes"] == [b"", b"\xff\0"]
        np.testing.assert_array_equal(found["floats"], np.array([0.5, -1e30], np.float32))
        assert found["ints"].tolist() == [-5, 2**62, 0]
        assert found["none"] == []


def test_images_are_unpacked_once_and_keep_their_names(tmp_path, capsys):
    out, data = written(tmp_path)
    first = read(out).records[0].path
    assert first.name == data.records[0].path.name
    assert first.read_bytes() == data.records[0].path.read_bytes()
    assert "are unpacked once" in capsys.readouterr().err
    assert read(out).records[0].path == first
    assert "unpack" not in capsys.readouterr().err


def test_masks_are_kept(tmp_path):
    data = data_set(tmp_path / "in", "train", ONE)
    square = Polygons((np.array([[3, 2], [20, 2], [20, 12], [3, 12]], np.float32),))
    object.__setattr__(data.records[0], "masks", (square, None))
    out = tmp_path / "out"
    out.mkdir()
    TFRecord().write(out, [data])
    mask, empty = read(out, masks=True).records[0].masks
    assert isinstance(mask, RunLengths)
    np.testing.assert_array_equal(pixels_of(mask, (20, 30)), pixels_of(square, (20, 30)))
    assert not pixels_of(empty, (20, 30)).any()
    assert read(out).records[0].masks == ()


def test_classes_without_boxes_are_classification(tmp_path):
    images = data_set(tmp_path / "in", "train", ONE * 3)
    records = tuple(ClassificationRecord(one.path, place) for place, one in enumerate(images.records))
    data = ClassificationData(tmp_path, "train", ("b", "a", "c"), records)
    out = tmp_path / "out"
    out.mkdir()
    TFRecord().write(out, [data])
    found = read(out)
    assert isinstance(found, ClassificationData)
    assert found.labels == ("b", "a", "c")
    assert [one.label for one in found.records] == [0, 1, 2]


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ({"image__object__bbox__xmin": [0.1]}, "lists of objects differ in length"),
        ({"image__object__bbox__xmax": [20.0, 9.0]}, "are not shares of the image's sides"),
        ({"image__object__bbox__xmin": [float("nan"), 0.1]}, "not a finite number"),
        (
            {"image__object__class__text": [b"cat", b"red cell"]},
            "label_map.pbtxt calls 1 'red cell'",
        ),
        ({"image__object__class__text": [], "image__object__class__label": [1, 99]}, "99 is not in"),
    ],
)
def test_bad_objects_are_named_or_skipped(tmp_path, features, problem):
    out = changed(written(tmp_path, ONE * 2)[0], **features)
    with pytest.raises(EffkerasError, match=f"record 1: .*{problem}.*--skip-bad"):
        read(out)
    assert read(out, skip_bad=True).skipped


def test_crowds_and_difficult_objects_are_ignored(tmp_path):
    out = changed(written(tmp_path)[0], image__object__is_crowd=[1, 0], image__object__difficult=[0, 1])
    assert read(out).records[0].crowd.tolist() == [True, True]


def test_missing_files_of_a_set_are_named(tmp_path):
    out, _ = written(tmp_path)
    shard(out).rename(out / "train.tfrecord-00001-of-00003")
    with pytest.raises(EffkerasError, match=r"2 of the 3 files train\.tfrecord-\*-of-00003 are missing"):
        read(out)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco_train.record-00000-of-00001", "train"),
        ("instances-val2017.tfrecord", "val"),
        ("data.tfrecord", "train"),
        ("test/cells.tfrecords", "test"),
    ],
)
def test_names_of_files_and_folders_tell_the_split(tmp_path, name, split):
    out, _ = written(tmp_path)
    (out / name).parent.mkdir(exist_ok=True)
    shard(out).rename(out / name)
    assert TFRecord().splits(out) == [split]
    assert len(TFRecord().read(out, split, ReadOptions()).records) == 1
    assert len(open_data(out / name, "train").records) == 1


def test_a_damaged_record_is_named_and_what_follows_is_left_out(tmp_path):
    out, _ = written(tmp_path, ONE * 3)
    content = bytearray(shard(out).read_bytes())
    content[len(content) // 2] ^= 1
    shard(out).write_bytes(content)
    with pytest.raises(EffkerasError, match=r"record 2 is damaged: its checksum differs"):
        read(out)
    data = read(out, skip_bad=True)
    assert len(data.records) == 1
    assert "from record 2 on" in data.skipped[0].what


@pytest.mark.parametrize("text", ["", "item {}", "item { id: 1 }", "item{id:1 name:'a'} item{id:1 name:'b'}"])
def test_a_bad_label_map_is_refused(tmp_path, text):
    (tmp_path / "m.pbtxt").write_text(text)
    with pytest.raises(EffkerasError, match=r"m\.pbtxt: (there are no items|an item needs)"):
        read_label_map(tmp_path / "m.pbtxt")


def test_a_label_map_prefers_names_to_show(tmp_path):
    (tmp_path / "m.pbtxt").write_text(
        "item {\n  name: '/m/01g'\n  id: 1\n  display_name: 'person'\n}\n# item\nitem { id: 3 name: 'a b' }"
    )
    assert read_label_map(tmp_path / "m.pbtxt").names == {1: "person", 3: "a b"}


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_only_our_own_errors_come_out_of_damaged_files(data):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFKERAS_CACHE", str(Path(folder, "cache")))
        out, _ = written(Path(folder), ONE)
        path = data.draw(st.sampled_from([shard(out), out / "label_map.pbtxt"]))
        content = damaged(data, path.read_bytes())
        path.write_bytes(content)
        assert_only_our_errors(TFRecord(), out)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damaged_messages_are_refused(content, place, byte):
    message = bytearray(encode_example({"a": [1, 2, -3], "b": [0.5], "c": [content]}))
    message[place % len(message)] = byte
    try:
        parse_example(bytes(message))
    except EffkerasError as error:
        assert "not a valid tf.train.Example" in str(error)  # noqa: PT017


def test_a_zipped_file_that_expands_beyond_all_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_examples, "_LARGEST_UNZIPPED", 10_000)
    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(gzip.compress(framed(bytes(1000)) * 1000))
    assert len(list(itertools.islice(read_records(path), 5))) == 5
    with pytest.raises(EffkerasError, match="expands to more than"):
        list(read_records(path))


@pytest.mark.parametrize(
    "text", ["\n" * 300_000, "item " + " " * 300_000, "item {" + 'id: "' * 100_000 + "}"]
)
def test_a_label_map_takes_no_time_by_the_square_of_its_length(text, tmp_path):
    """300,000 empty lines took ten minutes."""
    path = tmp_path / "label_map.pbtxt"
    path.write_text(text)
    with pytest.raises(EffkerasError, match="there are no items"):
        read_label_map(path)
    path.write_text(text + "\nitem { id: 1 name: 'cat' }")
    assert read_label_map(path).names == {1: "cat"}
