"""`effkeras data`: the verbs as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.voc_sets import write_voc

from effkeras import cli
from effkeras.data.splits import open_data

CAT, DOG = ("cat", 10, 8, 40, 32), ("dog", 2, 2, 20, 40)


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two splits; only train has dogs."""
    return write_voc(tmp_path / "pets", {"train": {"a": [CAT, DOG], "b": [CAT]}, "val": {"c": [CAT]}})


def test_the_group_lists_its_verbs(capsys):
    assert run("data", "--help") == 0
    out = capsys.readouterr().out
    assert "data convert" in out
    assert "train a model" not in out
    assert run("data", "cnvert") == 2
    assert "did you mean 'data convert'?" in capsys.readouterr().err


def test_convert_keeps_splits_boxes_and_classes(pets, tmp_path, capsys):
    assert run("data", "convert", pets, tmp_path / "copy", "--to", "voc") == 0
    assert f"next: effkeras train efficientdet-lite0 --data {tmp_path / 'copy'}" in capsys.readouterr().out
    for split in ("train", "val"):
        ours, theirs = open_data(tmp_path / "copy", split), open_data(pets, split)
        assert ours.labels == theirs.labels
        pairs = zip(ours.records, theirs.records, strict=True)
        assert all((one.boxes == other.boxes).all() for one, other in pairs)


def test_convert_keeps_images_of_one_name_in_different_splits(tmp_path):
    """The devkit's layout has one folder of images for all splits."""
    for split, box in (("train", CAT), ("val", DOG)):
        write_voc(tmp_path / "two" / split, {"": {"a": [box]}})
        for file in (tmp_path / "two" / split).rglob("*.txt"):
            file.unlink()
    assert run("data", "convert", tmp_path / "two", tmp_path / "copy", "--to", "voc") == 0
    assert [open_data(tmp_path / "copy", split).records[0].boxes[0, 1] for split in ("train", "val")] == [
        10,
        2,
    ]


@pytest.mark.parametrize("target", ["full", "file", "pets/inside"])
def test_convert_overwrites_nothing(target, pets, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "file").touch()
    assert run("data", "convert", pets, tmp_path / target, "--to", "voc") == 2
    assert "choose another" in capsys.readouterr().err or target == "pets/inside"
    assert (tmp_path / "full" / "mine.txt").exists()


def test_convert_scales_boxes_to_the_real_size(tmp_path, capsys):
    """The image was scaled after labelling."""
    write_voc(tmp_path / "small", {"train": {"a": [CAT]}}, size=(32, 24), stated=(64, 48))
    assert run("data", "convert", tmp_path / "small", tmp_path / "copy", "--to", "voc") == 0
    assert "scaled the boxes of 1 of 1 images" in capsys.readouterr().err
    record = open_data(tmp_path / "copy", "train").records[0]
    assert record.size == (24, 32)
    assert record.boxes.tolist() == [[4, 5, 16, 20]]


def test_convert_refuses_labels_of_another_shape(tmp_path, capsys):
    write_voc(tmp_path / "turned", {"train": {"a": [CAT]}}, size=(48, 64), stated=(64, 48))
    write_voc(tmp_path / "turned", {"other": {"b": [CAT]}})
    (tmp_path / "turned/ImageSets/Main/other.txt").unlink()
    (tmp_path / "turned/ImageSets/Main/train.txt").write_text("a\nb\n")
    words = ["data", "convert", tmp_path / "turned", tmp_path / "copy", "--to", "voc"]
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert "a.jpg" in error
    assert "48 x 64" in error
    assert not (tmp_path / "copy").exists()
    assert run(*words, "--skip-bad") == 0
    assert "1 of 2 images cannot be used" in capsys.readouterr().err
    assert len(open_data(tmp_path / "copy", "train").records) == 1
