"""Where YOLO's files lie: every form of data.yaml, and folders without one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from effkeras.data.formats import WHOLE
from effkeras.data.formats.yolo import Yolo
from effkeras.data.records import ReadOptions
from effkeras.data.splits import find_split, format_of, open_data
from effkeras.support.errors import EffkerasError

BOX = "1 0.5 0.5 0.25 0.5"
NAMES = "names: [cat, dog]\n"


def store(images: Path, labels: Path, *stems: str, line: str = BOX) -> None:
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    for stem in stems or ("a",):
        Image.new("RGB", (40, 20)).save(images / f"{stem}.jpg")
        (labels / f"{stem}.txt").write_text(line)


def data_file(root: Path, text: str, name: str = "data.yaml") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, "utf-8")
    return root / name


def read(root: Path, split: str = "train"):
    return Yolo().read(root, split, ReadOptions())


def stems(root: Path, split: str = "train") -> list[str]:
    return [record.path.stem for record in read(root, split).records]


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    """images/train and images/val beside labels/train and labels/val."""
    store(tmp_path / "images" / "train", tmp_path / "labels" / "train", "a", "b")
    store(tmp_path / "images" / "val", tmp_path / "labels" / "val", "c")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "train: images/train\nval: images/val\n",
        "path: .\ntrain: ./images/train/\nval: images/val\ntest:\n",
        "path: ../{name}\ntrain: images/train\nval: images/val\ntest: # none\n",
        "path: {name}\ntrain: images/train\nval: images/val\n",
        "path: {root}\ntrain: images/train\nval: images/val\n",
        "train: {root}/images/train\nval: images\\val\n",
        "train: [images/train]\nval:\n  - images/val\n",
        "train: train.txt\nval: lists/val.txt\n",
        "path: /content/data\ntrain: images/train\nval: images/val\n",
    ],
)
def test_every_form_of_a_data_file_is_read(usual, text):
    (usual / "train.txt").write_text(f"./images/train/a.jpg\n\n{usual}/images/train/b.jpg\n")
    (usual / "lists").mkdir()
    (usual / "lists" / "val.txt").write_text("images/val/c.jpg\n")
    path = data_file(usual, text.format(name=usual.name, root=usual) + NAMES)
    for root in (usual, path):
        assert format_of(root).title == "YOLO"
        assert Yolo().splits(root) == ["train", "val"]
        assert stems(root) == ["a", "b"]
        assert stems(root, "val") == ["c"]


def test_roboflows_paths_lead_to_the_folders_beside(tmp_path, capsys):
    store(tmp_path / "train" / "images", tmp_path / "train" / "labels", "a")
    store(tmp_path / "valid" / "images", tmp_path / "valid" / "labels", "b")
    lines = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\n"
    data_file(tmp_path, f"{lines}{NAMES}roboflow:\n  project: x\n")
    assert find_split(tmp_path, "test", "val") == "val"
    assert stems(tmp_path, "val") == ["b"]
    noted = capsys.readouterr().err
    assert f"train is '../train/images'; {tmp_path}/train/images is used" in noted
    assert "test is left out: there is no '../test/images'" in noted


def test_a_data_file_may_lie_in_a_folder_of_its_own(usual):
    path = data_file(usual / "config", f"path: ..\ntrain: images/train\n{NAMES}", "own.yaml")
    assert stems(path) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("train: /etc/images\n", r"train: the file name '/etc/images' is absolute"),
        ("train: C:\\images\n", r"train: .* is absolute"),
        ("train: images/../../..\n", r"train: .* leads out"),
        ("train: nowhere\n", r"no folder of images is where it says \(train: nowhere\)"),
        ("train: ../../../../../etc\n", "no folder of images"),
        ("train: {a: b}\n", "'train' must be a folder, a list of folders or a .txt"),
        ("train: images/train\nnc: 3\n", r"nc is 3 and 'names' has 2 classes"),
        ("train: images/train\nnc: two\n", "nc is 'two', not a whole number"),
        ("train: images/train\nkpt_shape: 5\n", "kpt_shape must have two numbers"),
        ("train: images/train\ntrain: images/val\n", "the key 'train' occurs twice"),
        ("train: [images/train\n", "not valid YAML .*line"),
        ("train: &x images/train\nval: *x\n", "has references"),
        ("train: " + "[" * 100_000 + "\n", "not valid YAML"),
        ("train: [" + "a," * 200_000 + "]\n", "has more than 40000 entries"),
        ("train: images/train\n#" + "x" * 600_000, "larger than 512 kB"),
    ],
)
def test_a_bad_data_file_is_one_clear_line(usual, text, problem):
    path = data_file(usual, NAMES + text)
    start = time.process_time()
    assert Yolo().splits(usual)
    with pytest.raises(EffkerasError, match=problem) as error:
        read(usual)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("names: [no, 007]", ("no", "007")),
        ("names:\n  0: cat\n  1: 'dog: big'", ("cat", "dog: big")),
        ("names: {1: dog, 7: cat}\nnc: 8", ("dog", "cat")),
        ("nc: 2", ("0", "1")),
    ],
)
def test_class_names(usual, names, labels):
    data_file(usual, f"train: images/train\n{names}\n")
    data = read(usual)
    assert data.labels == labels
    assert data.categories[data.records[0].classes[0]].id == 1


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("names: [cat, cat]", "two classes are named 'cat'"),
        ('names: ["cat", "d\\nog"]', "control characters"),
        ("names: coco.names", "'names' must list the class names"),
        ("names: {a: cat}", "a key of names is 'a', not a whole number"),
        ("names: {0: cat, 00: dog}", "the class number '00' occurs twice"),
    ],
)
def test_bad_class_names_are_refused(usual, names, problem):
    data_file(usual, f"train: images/train\n{names}\n")
    with pytest.raises(EffkerasError, match=problem):
        read(usual)


def test_two_data_files_are_ambiguous(usual):
    for name in ("one.yaml", "two.yaml"):
        data_file(usual, f"train: images/train\n{NAMES}", name)
    with pytest.raises(EffkerasError, match=r"several YOLO data sets \(one\.yaml, two\.yaml\)"):
        read(usual)
    assert stems(usual / "one.yaml") == ["a", "b"]


def test_the_boxes_of_poses_are_read(usual, capsys):
    (usual / "labels" / "train" / "a.txt").write_text(f"{BOX} .1 .2 .3 .4\n")
    data_file(usual, f"train: images/train\nkpt_shape: [2, 2]\n{NAMES}")
    record = read(usual).records[0]
    assert record.boxes.tolist() == [[5, 15, 15, 25]]
    assert "keypoints are not read" in capsys.readouterr().err


def test_lists_name_missing_images(usual):
    (usual / "train.txt").write_text("images/train/a.jpg\nimages/train/x.jpg\n../a.jpg\n")
    data_file(usual, f"train: train.txt\n{NAMES}")
    with pytest.raises(EffkerasError, match=r"2 of 3 images .*train\.txt: line 2: no image file"):
        read(usual)


def test_without_a_data_file_folders_are_splits(usual, capsys):
    assert Yolo().splits(usual) == ["train", "val"]
    data = read(usual)
    assert data.labels == ("1",)
    assert "no file has class names, so classes are named by their numbers" in capsys.readouterr().err
    (usual / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert read(usual).labels == ("cat", "dog")
    (usual / "obj.names").write_text("dog\ncat\n")
    with pytest.raises(EffkerasError, match=r"obj\.names and .*classes\.txt list different classes"):
        read(usual)


@pytest.mark.parametrize("nested", [False, True])
def test_each_split_may_have_its_own_folders(tmp_path, nested):
    for split in ("train", "valid"):
        images, labels = ("images", "labels") if nested else ("", "")
        store(tmp_path / split / images, tmp_path / split / labels)
    assert Yolo().splits(tmp_path) == ["train", "valid"]
    assert len(open_data(tmp_path, "val").records) == 1


def test_labels_may_lie_beside_the_images(tmp_path):
    store(tmp_path, tmp_path, "a", "b")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert Yolo().splits(tmp_path) == [WHOLE]
    assert read(tmp_path).labels == ("cat", "dog")


def test_subfolders_and_links_are_followed(tmp_path):
    store(tmp_path / "far", tmp_path / "far", "c")
    root = tmp_path / "data"
    store(root / "images" / "x", root / "labels" / "x", "a")
    (root / "images" / "linked").symlink_to(tmp_path / "far")
    (root / "labels" / "linked").symlink_to(tmp_path / "far")
    (root / "images" / "x" / "loop").symlink_to(root / "images")
    assert sorted(stems(root)) == ["a", "c"]


def test_names_may_differ_in_case(tmp_path):
    store(tmp_path / "Images", tmp_path / "Labels", "IMG")
    (tmp_path / "Labels" / "IMG.txt").rename(tmp_path / "Labels" / "img.TXT")
    data_file(tmp_path, f"train: Images\n{NAMES}")
    assert len(read(tmp_path).records[0].boxes) == 1


@pytest.mark.parametrize("line", ["Car 0.00 0 -1.57 614 181 727 284", "a red cell", ""])
def test_other_texts_are_not_taken_for_labels(tmp_path, line):
    store(tmp_path / "images", tmp_path / "labels", line=line)
    assert Yolo().splits(tmp_path) == []
