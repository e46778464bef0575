"""One rule for class names, in definitions, data and files of labels."""

from __future__ import annotations

import json

import pytest
from support.tiny import tiny_classifier

from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_classes
from effkeras.definitions.class_names import checked_class_names, natural_key
from effkeras.definitions.zoo import spec
from effkeras.support.errors import EffkerasError

UNFIT = [
    (("cat", "two\nlines"), "control characters or line breaks"),
    (("cat", "a\x00b"), "control characters or line breaks"),
    (("cat", "a\u2028b"), "control characters or line breaks"),
    (("cat", "\udc80"), "control characters or line breaks"),
    (("cat", " "), "a class name is empty"),
    (("cat", "x" * 201), "has 201 characters"),
    (("Ka\u0308fer", "K\u00e4fer "), "two classes are named"),
]


def test_good_names_lose_only_spaces():
    names = (" cat", "2 euro", "Möwe", "\u732b", "dog\u200d", "a b")  # a joiner shows nothing, as in emojis
    assert checked_class_names(names) == tuple(name.strip() for name in names)


@pytest.mark.parametrize(("names", "message"), UNFIT)
def test_unfit_names_are_refused_everywhere(names, message, tmp_path):
    with pytest.raises(EffkerasError, match=message):
        checked_class_names(names)
    with pytest.raises(EffkerasError, match=message):
        with_classes(tiny_classifier(), names)
    labels = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}],
        "annotations": [
            {"id": key, "image_id": 1, "category_id": key, "bbox": [1, 1, 3, 3]} for key in (1, 2)
        ],
        "categories": [{"id": key, "name": name} for key, name in enumerate(names, 1)],
    }
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "images" / "a.jpg").touch()
    (tmp_path / "train" / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(EffkerasError):
        open_data(tmp_path, "train")


def test_a_definition_with_an_unfit_name_is_refused(tmp_path):
    text = tiny_classifier().replace(classes=2, labels=("cat", "dog")).to_toml()
    (tmp_path / "own.toml").write_text(text.replace('"dog"', '"cat"'))
    with pytest.raises(EffkerasError, match=r"own\.toml: two classes are named 'cat'"):
        spec(tmp_path / "own.toml")


def test_an_unfit_folder_is_no_class(tmp_path):
    folder = tmp_path / "train" / "two\nlines"
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    with pytest.raises(EffkerasError, match=r"the class name .* line breaks") as error:
        open_data(tmp_path, "train")
    assert str(error.value).startswith(str(tmp_path))


def test_numbers_sort_as_numbers():
    assert sorted(["10", "9", "b2", "b10", "a"], key=natural_key) == ["9", "10", "a", "b2", "b10"]
