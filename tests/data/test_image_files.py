"""Image files are found by the names in labels, however these are written."""

from __future__ import annotations

import unicodedata

import pytest

from effkeras.data.image_files import ImageFinder
from effkeras.support.errors import EffkerasError


def finder(folder, *names, suffixes=()):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return ImageFinder(folder, suffixes)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("a.jpg", "a.jpg"),
        ("sub/a.jpg", "./sub/a.jpg"),
        ("Sub/A.JPG", "sub\\a.jpg"),
        (unicodedata.normalize("NFD", "\u00e9.png"), "\u00e9.png"),
    ],
)
def test_names_may_differ_in_form(tmp_path, there, asked):
    assert finder(tmp_path, there).find(asked) == tmp_path / there


def test_suffixes_are_tried(tmp_path):
    one = finder(tmp_path, "a.png", "b.c.jpg", suffixes=(".jpg", ".png"))
    assert one.find("a").name == "a.png"
    assert one.find("b.c").name == "b.c.jpg"
    assert one.look_up("d") is None


def test_two_candidates_are_refused(tmp_path):
    with pytest.raises(EffkerasError, match=r"'A\.JPG' or 'a\.JPG'"):
        finder(tmp_path, "A.JPG", "a.JPG").find("a.jpg")


@pytest.mark.parametrize("name", ["/etc/passwd", "C:\\a.jpg", "../a.jpg", "x/../../a.jpg", "", "a\0.jpg"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(EffkerasError, match=r"absolute|leads out|is not a file name"):
        finder(tmp_path, "a.jpg").find(name)


def test_the_first_missing_files_come_with_a_hint(tmp_path):
    one = finder(tmp_path, "image_1.jpg")

    def error(name):
        with pytest.raises(EffkerasError, match=f"no image file '{name}'") as caught:
            one.find(name)
        return str(caught.value)

    errors = [error(f"image_{number}.jpeg") for number in range(2, 8)]
    assert "the most similar name there is 'image_1.jpg'" in errors[0]
    assert "similar" not in errors[-1]
