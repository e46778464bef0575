"""Files appear whole or not at all, and only where they may."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effkeras.support.errors import EffkerasError
from effkeras.support.files import (
    below,
    distinct_names,
    inside,
    make_folder,
    output_files,
    own_temporary_files,
    safe_name,
    whole_file,
    whole_folder,
    write_bytes,
    write_text,
)


def test_a_file_appears_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "c.bin"
    write_bytes(path, b"old and long")
    write_bytes(path, bytearray(b"new"))
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "c.txt"
    write_text(path, "old")

    def fail():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise error("no")

    with pytest.raises(error, match="no"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_of_the_disk_is_reported(tmp_path):
    def fail():
        with whole_file(tmp_path / "c.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(EffkerasError, match=r"cannot write .*c\.txt: No space left on device"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_beside_and_has_the_suffix(tmp_path):
    with whole_file(tmp_path / "c.keras") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".keras"
        assert temporary.name != "c.keras"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_file_may_be_read_by_those_who_may_read_others(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(EffkerasError, match="it is a folder"):
        write_text(tmp_path / "folder", "x")


def test_a_file_is_no_folder(tmp_path):
    write_text(tmp_path / "file", "x")
    for path in (tmp_path / "file" / "c.txt", tmp_path / "file" / "more" / "c.txt"):
        with pytest.raises(EffkerasError, match="cannot create the folder"):
            write_text(path, "x")
    with pytest.raises(EffkerasError, match="cannot create the folder"):
        make_folder(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(EffkerasError, match=r"cannot write .*c\.txt: Permission denied"):
        write_text(tmp_path / "c.txt", "x")


def test_folders_are_made_with_their_parents(tmp_path):
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == folder
    assert make_folder(folder).is_dir()


@pytest.mark.parametrize("name", ["a.keras", "sub/a.keras", "sub/../a.keras", "./a.keras"])
def test_a_name_inside_is_taken(name, tmp_path):
    assert inside(tmp_path, name) == (tmp_path / name).resolve()


@pytest.mark.parametrize(
    "name", ["../a.keras", "sub/../../a.keras", "/etc/passwd", "../model2/a.keras", ".."]
)
def test_a_name_that_leads_out_is_refused(name, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(EffkerasError, match="leads out of"):
        inside(folder, name)


@pytest.mark.parametrize("name", ["a\0b", "n" * 300])
def test_what_is_no_file_name_is_refused(name, tmp_path):
    for find in (inside, below):
        with pytest.raises(EffkerasError, match="leads out of"):
            find(tmp_path, name)


@pytest.mark.parametrize("name", ["../a", "/a", "", "b/../../a", ".."])
def test_a_name_below_is_told_by_the_name_alone(name, tmp_path):
    (tmp_path / "link").symlink_to("/")
    assert below(tmp_path, "link/a") == tmp_path / "link" / "a"
    with pytest.raises(EffkerasError, match="leads out of"):
        below(tmp_path, name)


def test_a_link_that_leads_out_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    Path(folder / "link").symlink_to(tmp_path)
    with pytest.raises(EffkerasError, match="leads out of"):
        inside(folder, "link/a.keras")


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a" / "made"
    for content in ("old", "new"):
        with whole_folder(path) as aside:
            (aside / content).write_text(content)
    assert [one.name for one in path.iterdir()] == ["new"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_folder_that_fails_leaves_the_old_one(error, tmp_path):
    path = tmp_path / "made"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(EffkerasError if error is OSError else error):
        write_half_a_folder(path, error)
    assert [one.name for one in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def write_half_a_folder(path, error):
    with whole_folder(path) as aside:
        (aside / "new").write_text("half")
        raise error


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EffkerasError, match="cannot create the folder"),
        whole_folder(tmp_path / "file" / "x"),
    ):
        pass


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a.jpg", "b.png"], ["a.png", "b.png"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["a.jpg", "a.png", "a.jpg.webp"], ["a.jpg-2.png", "a.png.png", "a.jpg.png"]),
        (["A.jpg", "a.jpg"], ["A.jpg.png", "a.jpg-2.png"]),
        (["one/1.jpg", "two/1.jpg"], ["1.jpg.png", "1.jpg-2.png"]),
    ],
)
def test_what_is_made_of_files_has_names_of_its_own(names, files, tmp_path):
    sources = [tmp_path / name for name in names]
    assert output_files(tmp_path / "out", sources, ".png") == {
        source: tmp_path / "out" / file for source, file in zip(sources, files, strict=True)
    }


def test_what_is_made_of_files_overwrites_none_of_them(tmp_path):
    sources = [tmp_path / "a.jpg", tmp_path / "b.png"]
    with pytest.raises(EffkerasError, match=r"would overwrite .*b\.png; give another folder"):
        output_files(tmp_path, sources, ".png")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/int8.tflite", "a/fp16.tflite", "a/int8.tflite"], ["int8", "fp16"]),
        (["runs/one/artifacts/int8.tflite", "runs/two/artifacts/int8.tflite"], ["one/int8", "two/int8"]),
        (["a/1/x.tflite", "a/2/x.tflite", "b/1/x.tflite"], ["a/1/x.tflite", "a/2/x.tflite", "b/1/x.tflite"]),
        (["x.tflite", "a/x.tflite", "y.tflite"], ["x.tflite", "a/x.tflite", "y"]),
    ],
)
def test_files_are_told_apart(files, names):
    assert list(distinct_names(map(Path, files)).values()) == names


@pytest.mark.parametrize("name", ["d0", "efficientnet-edgetpu-s", "v2.1_b+", "my model", "été", "a" * 200])
def test_a_plain_name_is_taken(name):
    assert safe_name(name, "the name") == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (".", "starts with a dot"),
        ("..", "starts with a dot"),
        (".hidden", "starts with a dot"),
        ("../x", "contains a slash"),
        ("/etc/x", "contains a slash"),
        ("a/b", "contains a slash"),
        ("a\\b", "contains a slash or backslash"),
        ("a\nb", "cannot be printed"),
        ("a\0", "cannot be printed"),
        ("a\x1b[2J", "cannot be printed"),
        ("\u202egnp.exe", "cannot be printed"),
        ("a\ud800", "cannot be printed"),
        ("a" * 201, "longer than 200 bytes"),
        ("é" * 101, "longer than 200 bytes"),
        ("a" * 10**6, "longer than 200 bytes"),
    ],
)
def test_a_name_that_is_no_files_is_refused(name, problem):
    with pytest.raises(EffkerasError, match=problem) as caught:
        safe_name(name, "mine.toml: the name")
    message = str(caught.value)
    assert message.startswith("mine.toml: the name '")
    assert message.isprintable()
    assert len(message) < 200


@given(st.text(st.sampled_from("ab./\\\n\0 ~:-\u00e9"), max_size=8))
def test_a_name_that_is_taken_stays_in_its_folder(name):
    folder = Path("/some/folder")
    try:
        safe_name(name, "the name")
    except EffkerasError:
        return
    assert Path(os.path.normpath(folder / f"{name}.tflite")).parent == folder
    assert Path(os.path.normpath(folder / name)).parent == folder


def test_temporary_files_that_others_leave_are_gone(tmp_path, monkeypatch):
    @own_temporary_files()
    def fail_halfway() -> None:
        with tempfile.NamedTemporaryFile(delete=False) as left:
            assert Path(left.name).is_file()
        raise OSError("full")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="full"):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)
