"""Which label names which class of a foreign file, and where that is unknown."""

from __future__ import annotations

import pytest

from effkeras import EffkerasError
from effkeras.definitions.imagenet import class_names
from effkeras.litert.foreign.labels import names_for, read_label_file
from effkeras.litert.foreign.options import ForeignOptions

ABC = ("a", "b", "c")


@pytest.mark.parametrize(
    ("classes", "labels", "offset", "names"),
    [
        (3, ABC, None, ABC),
        (4, ABC, None, ("background", *ABC)),  # 1,001 outputs against 1,000 labels
        (2, ("background", "b", "c"), None, ("b", "c")),
        (4, ABC, 1, ("background", *ABC)),
        (5, ABC, 2, ("0", "1", *ABC)),
        (5, ABC, 0, (*ABC, "3", "4")),
        (2, ABC, -1, ("b", "c")),
    ],
)
def test_a_classifier_s(classes, labels, offset, names):
    options = ForeignOptions(labels=labels, classes_offset=offset)
    assert names_for(classes, options, ("x", "y"), is_detector=False) == names


@pytest.mark.parametrize(
    ("labels", "offset", "names"),
    [
        (ABC, None, (*ABC, "3")),  # its scores have a column for the background, which it never answers
        (("???", *ABC), None, (*ABC, "3")),
        (ABC, -1, ("b", "c", "2", "3")),
        (ABC, 1, ("background", *ABC)),
    ],
)
def test_a_detector_s(labels, offset, names):
    options = ForeignOptions(classes_offset=offset)
    assert names_for(4, options, labels, is_detector=True) == names


def test_a_detector_that_does_not_tell_its_classes_has_those_of_its_labels():
    assert names_for(0, ForeignOptions(), ABC, is_detector=True) == ABC


def test_what_the_data_name_counts_last():
    data = ForeignOptions(data_labels=ABC)
    assert names_for(4, data, None, is_detector=False) == ("background", *ABC)
    assert names_for(3, data, ("x", "y", "z"), is_detector=False) == ("x", "y", "z")
    assert names_for(3, ForeignOptions(), None, is_detector=False) == ()
    with pytest.raises(EffkerasError, match=r"7 outputs without names, and the data 3 classes; .*--labels"):
        names_for(7, data, None, is_detector=False)


@pytest.mark.parametrize(
    ("classes", "options"),
    [
        (7, ForeignOptions(labels=ABC)),
        (2, ForeignOptions(labels=ABC)),
        (3, ForeignOptions(labels=ABC, classes_offset=9)),
        (3, ForeignOptions(classes_offset=1)),
    ],
)
def test_numbers_that_leave_it_open_are_refused(classes, options):
    with pytest.raises(EffkerasError, match="--classes-offset"):
        names_for(classes, options, None, is_detector=False)


def test_imagenet_s_names_are_known_in_any_spelling():
    ours = class_names(1001)
    theirs = ("background", *(f"{name.split(' (')[0].upper()}, other synonym" for name in ours[1:]))
    assert names_for(1001, ForeignOptions(labels=theirs), None, is_detector=False) == ours
    assert (
        names_for(1001, ForeignOptions(labels=read_label_file("imagenet")), None, is_detector=False) == ours
    )
    moved = (*theirs[1:], theirs[0])
    assert names_for(1001, ForeignOptions(labels=moved), None, is_detector=False) == moved


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("a.txt", "cat\r\ndog\n\n", ("cat", "dog")),
        ("a.txt", "0  cat\n2: tree frog\n", ("cat", "1", "tree frog")),
        ("a.txt", "7 up\ncola\n", ("7 up", "cola")),
        ("a.txt", "\x1b[2Jcat\n\ndog", ("[2Jcat", "", "dog")),
        ("a.pbtxt", "item { id: 1 name: 'cat' } item { id: 3 display_name: 'dog' }", ("cat", "1", "dog")),
    ],
)
def test_files_of_labels(tmp_path, name, text, labels):
    (tmp_path / name).write_bytes(text.encode())
    assert read_label_file(str(tmp_path / name)) == labels


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_bad_files_of_labels_are_named(tmp_path, content):
    file = tmp_path / "names.txt"
    with pytest.raises(EffkerasError, match=r"names\.txt.*imagenet"):
        read_label_file(str(file))
    file.write_bytes(content)
    with pytest.raises(EffkerasError, match=r"names\.txt"):
        read_label_file(str(file))


@pytest.mark.parametrize("number", [0, 999_999_999])
def test_a_label_map_numbers_classes_that_there_can_be(tmp_path, number):
    (tmp_path / "a.pbtxt").write_text(f"item {{ id: {number} name: 'cat' }}")
    with pytest.raises(EffkerasError, match=r"a\.pbtxt: give the classes numbers from 1"):
        read_label_file(str(tmp_path / "a.pbtxt"))
