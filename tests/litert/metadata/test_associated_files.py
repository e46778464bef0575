from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from effkeras import EffkerasError
from effkeras.litert.metadata.associated_files import (
    calibration_file,
    label_file,
    labels_in,
    read_calibration,
    read_labels,
)

LABELS = some.lists(
    some.text(some.characters(blacklist_characters="\n\r", codec="utf-8"), max_size=9), min_size=1
)


@given(LABELS)
def test_what_is_written_is_read(labels):
    if not labels[0].startswith("\ufeff"):
        assert labels_in(label_file(labels), "labels.txt") == tuple(labels)


def test_files_of_windows_are_read(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffcat\r\ndog\r\nMöwe".encode())
    assert read_labels(file, 3) == ("cat", "dog", "Möwe")


def test_a_wrong_length_names_file_and_both_numbers(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog\n")
    with pytest.raises(EffkerasError, match=r"labels.txt: 2 labels for 10 classes; give one label a line"):
        read_labels(file, 10)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(EffkerasError, match="cannot read"):
        read_labels(tmp_path / "nosuch.txt", 1)
    (tmp_path / "image").write_bytes(b"\x89PNG\xff")
    with pytest.raises(EffkerasError, match="not UTF-8"):
        read_labels(tmp_path / "image", 1)


@pytest.mark.parametrize(("text", "message"), [("cat\ncat\n", "two classes are named"), ("cat\n\n", "empty")])
def test_unfit_labels_are_refused(tmp_path, text, message):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(EffkerasError, match=rf"labels\.txt: .*{message}"):
        read_labels(tmp_path / "labels.txt", 2)


def test_a_label_over_two_lines_is_refused():
    with pytest.raises(EffkerasError, match="line break"):
        label_file(["cat\ndog"])


@pytest.mark.parametrize(
    ("content", "made"),
    [
        (b"1,2,3\n0.5,-2,.5,1e-3", b"1,2,3\n0.5,-2,.5,1e-3"),
        (b"1,2,3\n1,2,3\n", b"1,2,3\n1,2,3"),
        (b"\xef\xbb\xbf1, 2, 3\r\n1,2,3\r\n", b"1, 2, 3\n1,2,3"),
        (b"\n1,2,3\n", b"\n1,2,3"),
        (b"1,2,3\n", b"1,2,3\n"),
        (b"1,2,3\n\n", b"1,2,3\n"),
    ],
)
def test_there_is_a_line_for_each_class_between_the_line_breaks(content, made):
    assert calibration_file(content, 2, "c.csv") == made
    assert calibration_file(made, 2, "c.csv") == made
    assert len(made.split(b"\n")) == 2  # which is how MediaPipe counts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2,3", "c.csv: 1 lines for 2 classes; give a line for each"),
        (b"1,2,3\n\n1,2,3\n", "c.csv: 3 lines for 2 classes"),
        (b"", "c.csv: 0 lines for 2 classes"),
        (b"\n", "c.csv: all lines are empty"),
        (b"1,2,3\n1,2", "c.csv, line 2 has 2 values; give scale, slope, offset"),
        (b"1,2,3\n1;2;3", "c.csv, line 2 has 1 values"),
        (b"a,2,3\n1,2,3", "c.csv, line 1: 'a' is not a number"),
        (b"1,2,nan\n1,2,3", "c.csv, line 1: 'nan' is not a number"),
        (b"1,2,\n1,2,3", "c.csv, line 1: '' is not a number"),
        (b"1,2,3\n-1,2,3", "c.csv, line 2: the scale -1 is below 0"),
        (b"\xff", "c.csv is not UTF-8 text"),
    ],
)
def test_what_is_no_calibration_is_told_by_its_line(content, message):
    with pytest.raises(EffkerasError, match=message):
        calibration_file(content, 2, "c.csv")


def test_no_file(tmp_path):
    with pytest.raises(EffkerasError, match="cannot read"):
        read_calibration(tmp_path / "nosuch.csv", 2)
