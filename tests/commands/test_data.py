"""`effkeras data`: the verbs as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support.data_sets import REAL, assert_same, needs_bccd
from support.voc_sets import write_voc

from effkeras import cli
from effkeras.data.all_splits import read_all
from effkeras.data.records import ReadOptions
from effkeras.data.splits import open_data
from effkeras.definitions import zoo
from effkeras.inference.data_tiles import tiles_of

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
    assert f"next: effkeras train efficientdet-lite0 --data {tmp_path / 'copy'}" in capsys.readouterr().err
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


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_split_merges_and_splits_anew(pets, tmp_path, cache, capsys):
    write_voc(pets, {"more": {f"d{number}": [CAT, CAT, DOG] for number in range(9)}})
    words = ["data", "split", pets, tmp_path / "new", "--val", 0.25, "--test", 0.25]
    assert run(*words) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    counts = next([int(cell) for cell in row[1:]] for row in rows if row[:1] == ["cat"])
    assert sum(counts) == 21
    assert counts[0] in (10, 11)
    sizes = {split: len(open_data(tmp_path / "new", split).records) for split in ("train", "val", "test")}
    assert sum(sizes.values()) == 12
    assert all(abs(sizes[split] - wanted) <= 1 for split, wanted in (("train", 6), ("val", 3), ("test", 3)))
    assert len(list(cache.rglob("*.jsonl"))) == 1


@pytest.mark.parametrize("shares", [(0, 0), (0.6, 0.4), (-0.1, 0.2), ("nan", 0.1)])
def test_split_refuses_wrong_shares(shares, pets, tmp_path, capsys):
    val, test = shares
    assert run("data", "split", pets, tmp_path / "new", f"--val={val}", f"--test={test}") == 2
    assert "below 1" in capsys.readouterr().err


def test_split_needs_skip_bad_for_broken_images(pets, tmp_path, cache, capsys):
    write_voc(pets, {"more": {f"d{number}": [CAT] for number in range(6)}})
    image = pets / "JPEGImages" / "a.jpg"
    image.write_bytes(image.read_bytes()[:700])  # the header alone
    words = ["data", "split", pets, tmp_path / "new"]
    assert run(*words) == 2
    assert "a.jpg" in capsys.readouterr().err
    assert run(*words, "--skip-bad") == 0


def test_check_prints_all_and_returns_1(pets, tmp_path, cache, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("data", "check", "pets") == 0
    said = capsys.readouterr()
    assert "no problems found" in said.out
    assert said.err == "next: effkeras train efficientdet-lite0 --data pets --out runs/pets\n"
    write_voc(pets, {"test": {"x": [CAT, ("cat", 7, 7, 7, 9)]}})
    assert run("data", "check", "pets", "--fix", "fixed") == 1
    out = capsys.readouterr().out
    assert "annotations that cannot be used: 1\n  test: x.xml: object 2 ('cat')" in out
    assert max(map(len, out.splitlines())) <= 80
    assert run("data", "check", "fixed", "--no-decode") == 0


def test_check_as_json(pets, cache, capsys):
    write_voc(pets, {"test": {"x": [CAT, ("cat", 7, 7, 7, 9)]}})
    assert run("data", "check", pets, "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["images"] == {"train": 2, "val": 1, "test": 1}
    assert content["classes"][0]["counts"] == {"train": 2, "val": 1, "test": 1}
    assert content["problems"]["annotation"]["items"][0]["where"] == "x.xml: object 2 ('cat')"


def test_check_of_classes(digit_classes, cache, capsys):
    assert run("data", "check", digit_classes) in (0, 1)
    assert "a folder per class" in capsys.readouterr().out


def test_check_suggests_anchors_that_can_be_trained(tmp_path, cache, capsys, monkeypatch):
    """Tiny boxes: the printed TOML is a definition."""
    monkeypatch.chdir(tmp_path)
    tiny = {f"t{number}": [("tick", 200, 100, 218, 119)] for number in range(3)}
    write_voc(tmp_path / "tiny", {"train": tiny}, size=(640, 480))
    run("data", "check", "tiny", "--no-decode", "--model", "efficientdet-lite0")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    (tmp_path / "mine.toml").write_text(out[out.index("# Typical") : out.index("no problems")])
    spec = zoo.spec("mine.toml")
    assert max(spec.input.size) > 320
    assert spec.anchors != zoo.spec("efficientdet-lite0").anchors
    run("data", "check", "tiny", "--no-decode", "--model", "mine.toml")
    assert "fit these boxes" in capsys.readouterr().out


def test_check_of_anchors_needs_a_detector(pets, capsys):
    assert run("data", "check", pets, "--model", "efficientnet-b0") == 2
    assert "takes a detector" in capsys.readouterr().err


def width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


def test_show_draws_a_sheet(pets, tmp_path, capsys):
    assert run("data", "show", pets, "--out", tmp_path / "sheet.png") == 0
    assert width(tmp_path / "sheet.png") == 1600
    assert "2 images" in capsys.readouterr().out
    assert run("data", "show", pets, "--out", tmp_path / "sheet.txt") == 2


@pytest.mark.parametrize("kind", ["digits", "digit_classes"])
def test_show_draws_what_training_sees(kind, request, tmp_path):
    """The same images again, flipped, in the input's size."""
    folder = request.getfixturevalue(kind)
    (tmp_path / "a.toml").write_text("[augment]\nflip = true\nscale = [1.0, 1.0]\n")
    words = ["--images", 2, "--split", "val", "--out", tmp_path / "sheet.png"]
    assert run("data", "show", folder, *words, "--config", tmp_path / "a.toml") == 0
    assert width(tmp_path / "sheet.png") == 1600


def test_show_reads_recipes_as_training_does(digits, tmp_path, monkeypatch, capsys):
    """What a file states for some models counts for --model only; --augment FILE was its name before."""
    file, seen = tmp_path / "a.toml", []

    def as_trained(few, spec, settings):
        seen.append(settings.augment["flip"])
        return tiles_of(few)

    monkeypatch.setattr("effkeras.commands.data.show._as_trained", as_trained)
    file.write_text('[augment]\nflip = false\n[only."efficientdet-lite*"]\naugment = { flip = true }\n')
    words = ["data", "show", digits, "--images", 1, "--out", tmp_path / "sheet.png"]
    assert run(*words, "--config", file) == 0
    assert run(*words, "--augment", file, "--model", "efficientdet-lite0") == 0
    assert "is now --config" in capsys.readouterr().err
    assert run(*words, "--config", file, "--model", "efficientdet-lite0") == 0
    assert run(*words, "--augment", "lihgt") == run(*words, "--config", "paper") == 2
    assert seen == [False, True, True]


@pytest.mark.slow
@needs_bccd
def test_conversions_in_a_chain_keep_the_boxes_of_bccd(tmp_path, cache):
    """Through every format and back to VOC: the same splits, images, classes and boxes."""
    source = REAL / "bccd"
    for to in ("yolo", "coco", "csv", "tfrecord", "labelme", "voc"):
        assert run("data", "convert", source, tmp_path / to, "--to", to, "--skip-bad") == 0
        source = tmp_path / to
    first, last = (read_all(root, ReadOptions(skip_bad=True)) for root in (REAL / "bccd", source))
    assert [one.split for one in first] == [one.split for one in last] == ["train", "val", "test"]
    for ours, theirs in zip(last, first, strict=True):
        assert_same(ours, theirs)
