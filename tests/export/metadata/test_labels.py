from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from effkeras import EffkerasError
from export.metadata.associated_files import label_file, labels_in, read_labels

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


def test_a_label_over_two_lines_is_refused():
    with pytest.raises(EffkerasError, match="line break"):
        label_file(["cat\ndog"])
