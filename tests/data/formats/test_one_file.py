"""A format is one file: what it reads is measured and trained on like any other data."""

from __future__ import annotations

import pytest
from support.one_file import add_module
from support.pages import complete_file
from support.tiny import tiny_detector

import effkeras
from effkeras import cli
from effkeras.data.formats import FORMATS
from effkeras.data.splits import find_split, open_data
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import save

LINES = complete_file("format.md")


@pytest.fixture
def lines(digits, tmp_path, monkeypatch):
    """A data set of two images in one file, and the format that reads it."""
    images = sorted((digits / "test" / "images").glob("*.jpg"))[:2]
    data = tmp_path / "digits.lines"
    data.write_text("".join(f"test {image} 10 10 40 30\n" for image in images))
    module = tmp_path / "module"
    module.mkdir()
    add_module(FORMATS, "lines", LINES, module, monkeypatch)
    return data


def test_a_format_is_one_file(lines, tmp_path, capsys):
    assert find_split(lines, "train", "test") == "test"
    with pytest.raises(EffkerasError, match=r"no split 'val'; splits found: test; layout: \*\.lines"):
        open_data(lines, "val")
    model = tmp_path / "tiny.keras"
    spec = tiny_detector().replace(classes=1, labels=("digit",), category_ids=(1,))
    save(effkeras.build(spec), model)
    assert cli.main(["eval", str(model), "--data", str(lines)]) == 0
    assert "AP50" in capsys.readouterr().out


def test_errors_list_every_format(lines, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EffkerasError, match=r"COCO \(.*label maps \(.*a file of lines \(\*\.lines"):
        open_data(tmp_path / "empty", "train")


def test_labels_in_two_formats_are_refused(lines, monkeypatch):
    monkeypatch.setattr(FORMATS.get("coco"), "splits", lambda self, root: ["test"])
    with pytest.raises(EffkerasError, match="holds labels as COCO and a file of lines; leave those of one"):
        open_data(lines, "test")
