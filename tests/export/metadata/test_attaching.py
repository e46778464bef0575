from __future__ import annotations

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given
from hypothesis import strategies as some
from support.small_tflite import small_tflite
from support.tiny_models import quantized, random_images

from effkeras import EffkerasError
from effkeras.litert.archive import read_files
from effkeras.litert.flatbuffer import operators
from effkeras.litert.metadata.coding import TABLE, from_bytes, parser_version_in, to_bytes
from effkeras.litert.rewriting import attach as attach_entry
from effkeras.litert.rewriting import attach_all, attached
from effkeras.litert.runner import DEFINITION, RECIPE, LiteRTModel, definition_of
from export import metadata
from export.metadata import (
    AssociatedFile,
    Boxes,
    Content,
    Features,
    Group,
    Image,
    Metadata,
    Normalization,
    ScoreCalibration,
    ScoreThreshold,
    TensorMetadata,
)

texts = some.text(max_size=20)
numbers = some.lists(some.floats(-1e6, 1e6, width=32), max_size=3).map(tuple)
file_notes = some.builds(
    AssociatedFile,
    name=texts,
    kind=some.sampled_from(["UNKNOWN", "TENSOR_AXIS_LABELS", "VOCABULARY", "SCANN_INDEX_FILE"]),
    description=texts,
    locale=texts,
    version=texts,
)
contents = some.builds(
    Content,
    properties=some.one_of(
        some.none(),
        some.just(Features()),
        some.builds(
            Image,
            some.sampled_from(["UNKNOWN", "RGB", "GRAYSCALE"]),
            some.none() | some.tuples(some.integers(0, 9999), some.integers(0, 9999)),
        ),
        some.builds(
            Boxes,
            some.permutations(range(4)).map(tuple),
            some.sampled_from(["BOUNDARIES", "UPPER_LEFT", "CENTER"]),
            some.sampled_from(["RATIO", "PIXEL"]),
        ),
    ),
    dimensions=some.none() | some.tuples(some.integers(0, 9), some.integers(0, 9)),
)
units = some.one_of(
    some.builds(Normalization, numbers, numbers),
    some.builds(
        ScoreCalibration,
        some.sampled_from(["IDENTITY", "LOG", "INVERSE_LOGISTIC"]),
        some.floats(0, 1, width=32),
    ),
    some.builds(ScoreThreshold, some.floats(0, 1, width=32)),
)
tensor_notes = some.builds(
    TensorMetadata,
    name=texts,
    description=texts,
    content=some.none() | contents,
    units=some.lists(units, max_size=2).map(tuple),
    low=numbers,
    high=numbers,
    files=some.lists(file_notes, max_size=2).map(tuple),
    axes=some.lists(texts, max_size=3).map(tuple),
)
tensors = some.lists(tensor_notes, max_size=2).map(tuple)
everything = some.builds(
    Metadata,
    name=texts,
    description=texts,
    version=texts,
    author=texts,
    license=texts,
    inputs=tensors,
    outputs=tensors,
    files=some.just({}),
    groups=some.lists(some.builds(Group, texts, some.lists(texts, max_size=3).map(tuple)), max_size=2).map(
        tuple
    ),
    notes=some.lists(file_notes, max_size=2).map(tuple),
    custom=some.dictionaries(texts, some.binary(max_size=50), max_size=2),
)


@given(everything)
def test_what_is_written_is_read(wanted):
    assert from_bytes(to_bytes(wanted), wanted.files) == wanted


def small() -> Metadata:
    found = metadata.read(small_tflite())
    assert found is not None
    return found


def test_the_network_and_our_own_entries_stay():
    plain = quantized("efficientdet-lite0", "int8").flatbuffer
    spec = definition_of(plain)
    made = metadata.attach(plain, metadata.of_detector(spec, ["a", "b", "c"], plain))
    assert operators(made) == operators(plain)
    for entry in (DEFINITION, RECIPE, "min_runtime_version"):
        assert attached(made, entry) == attached(plain, entry) is not None
    wanted, got = (LiteRTModel.of_bytes(one)(random_images(1)) for one in (plain, made))
    for name, values in wanted.items():
        np.testing.assert_array_equal(got[name], values)


def test_attaching_again_replaces_everything():
    other = dataclasses.replace(small(), name="other", outputs=small().outputs)
    other = dataclasses.replace(other, files={**other.files, "more.txt": b"more"})
    twice = metadata.attach(small_tflite(), other)
    assert metadata.read(twice) == other
    thrice = metadata.attach(twice, small())
    assert metadata.read(thrice) == small()
    assert set(read_files(thrice)) == {"labels.txt"}


def test_our_own_entries_can_be_attached_after_it():
    more = attach_entry(small_tflite(), "note", b"later")
    assert attached(more, "note") == b"later"
    assert metadata.read(more) == small()
    with zipfile.ZipFile(io.BytesIO(more)) as archive:
        assert archive.testzip() is None


def test_none_is_none():
    assert metadata.read(quantized("efficientdet-lite0", "int8").flatbuffer) is None


def test_the_file_says_where_the_table_is_as_the_format_wants():
    table = attached(small_tflite(), TABLE)
    assert table[4:8] == b"M001"
    assert parser_version_in(table) == "1.0.0"


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({}, "1.0.0"),
        ({"notes": (AssociatedFile("words.txt", "VOCABULARY"),)}, "1.0.1"),
        ({"groups": (Group("detection_result", ("score",)),)}, "1.2.0"),
        ({"notes": (AssociatedFile("index", "SCANN_INDEX_FILE"),)}, "1.4.0"),
        ({"notes": (AssociatedFile("labels.txt", version="2"),)}, "1.4.1"),
        ({"custom": {"own": b"data"}, "groups": (Group("g", ()),)}, "1.5.0"),
    ],
)
def test_the_parser_version_is_that_of_the_newest_feature(change, version):
    assert parser_version_in(to_bytes(dataclasses.replace(small(), **change))) == version


def compiled(original: bytes) -> bytes:
    """What edgetpu_compiler leaves of a file: the graph, without metadata, entries and files."""
    parsed = flatbuffer_utils.read_model_from_bytearray(original)
    parsed.metadata = []
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def test_metadata_is_put_back_after_the_compiler():
    bare = compiled(small_tflite())
    assert metadata.read(bare) is None
    back = metadata.restore(bare, small_tflite())
    assert metadata.read(back) == small()
    assert attached(back, TABLE) == attached(small_tflite(), TABLE)
    assert definition_of(back) == definition_of(small_tflite())
    assert attached(back, RECIPE) == attached(small_tflite(), RECIPE)
    assert operators(back) == operators(small_tflite())


def test_what_the_compiler_says_of_its_own_stays():
    bare = attach_all(compiled(small_tflite()), {"min_runtime_version": b"compiler's"})
    back = metadata.restore(bare, small_tflite())
    assert attached(back, "min_runtime_version") == b"compiler's"


def test_putting_back_into_another_model_is_refused():
    with pytest.raises(EffkerasError, match="edgetpu_compiler was run on"):
        metadata.restore(quantized("efficientdet-lite0", "int8").flatbuffer, small_tflite())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ()}, "describes 0 inputs, and the .tflite has 1"),
        ({"outputs": ()}, "describes 0 outputs"),
        ({"files": {}}, "'labels.txt', which is missing from"),
        ({"files": {"labels.txt": b"a\nb\n"}}, "labels.txt: 2 labels for 10 classes"),
        ({"files": {"labels.txt": b"\xff\xfe"}}, "labels.txt is not UTF-8"),
    ],
)
def test_notes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(EffkerasError, match=message):
        metadata.attach(small_tflite(), dataclasses.replace(small(), **change))


def test_damaged_metadata_is_refused():
    damaged = attach_entry(small_tflite(), TABLE, b"\x10\0\0\0M001 is not enough")
    with pytest.raises(EffkerasError, match="TFLite Metadata is damaged"):
        metadata.read(damaged)
