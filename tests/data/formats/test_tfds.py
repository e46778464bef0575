"""TensorFlow Datasets: prepared folders, as it writes them, are read without it."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from effkeras.data.formats.tfds import TFDS
from effkeras.data.records import ClassificationData, ReadOptions
from effkeras.data.splits import find_split, open_data
from effkeras.data.tf_examples import encode_example, write_records
from effkeras.support.errors import EffkerasError

OBJECTS = {
    "bbox": {"boundingBox": {"bboxFormat": "REL_YXYX"}},
    "is_crowd": {"tensor": {}},
    "label": {"classLabel": {"numClasses": "2"}},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))


def features(**others):
    return {"featuresDict": {"features": {"image": {"image": {}}, **others}}}


def group(parts):
    return {"sequence": {"feature": {"featuresDict": {"features": parts}}}}


def prepared(folder, content, label, examples):
    """A folder as `tfds build` leaves it."""
    folder.mkdir(parents=True)
    info = {"name": "mine", "fileFormat": "tfrecord", "splits": [{"name": "train"}, {"name": "test"}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(content))
    (folder / f"{label}.labels.txt").write_text("cat\ndog\n")
    for split in ("train", "test"):
        write_records(folder / f"mine-{split}.tfrecord-00000-of-00001", map(encode_example, examples))
    return folder


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, "PNG")
    return buffer.getvalue()


def detection(folder, content=None):
    corners = [0.1, 0.2, 0.5, 0.6, 0.0, 0.0, 1.0, 1.0]
    objects = {"objects/bbox": corners, "objects/label": [1, 0], "objects/is_crowd": [0, 1]}
    empty = {"objects/bbox": [], "objects/label": [], "objects/is_crowd": []}
    examples = [{"image": [png()], "image/filename": [b"a.png"], **one} for one in (objects, empty)]
    return prepared(folder, content or features(objects=group(OBJECTS)), "objects-label", examples)


def test_a_folder_with_boxes_is_read(tmp_path):
    data = open_data(detection(tmp_path / "mine"), "test")
    first, second = data.records
    assert data.labels == ("cat", "dog")
    np.testing.assert_allclose(first.boxes, [[2, 6, 10, 18], [0, 0, 20, 30]], atol=1e-4)
    assert (first.classes.tolist(), first.crowd.tolist(), first.size) == ([1, 0], [False, True], (20, 30))
    assert len(second.boxes) == 0


def test_corners_may_stand_in_another_order(tmp_path):
    parts = OBJECTS | {"bbox": {"boundingBox": {"bboxFormat": "REL_XYXY"}}}
    data = open_data(detection(tmp_path / "mine", features(objects=group(parts))), "test")
    np.testing.assert_allclose(data.records[0].boxes[0], [4, 3, 12, 15], atol=1e-4)
    parts = OBJECTS | {"bbox": {"boundingBox": {"bboxFormat": "XYWH"}}}
    with pytest.raises(EffkerasError, match="boxes as XYWH are not read"):
        open_data(detection(tmp_path / "other", features(objects=group(parts))), "test")


def test_a_folder_with_classes_is_read(tmp_path):
    content = features(label={"classLabel": {}}, coarse_label={"classLabel": {}})
    data = open_data(
        prepared(tmp_path / "mine", content, "label", [{"image": [png()], "label": [1]}]), "test"
    )
    assert isinstance(data, ClassificationData)
    assert (data.labels, data.records[0].label) == (("cat", "dog"), 1)


def test_a_name_finds_the_latest_version(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    detection(tmp_path / "mine" / "1.9.0")
    detection(tmp_path / "mine" / "1.10.0")
    assert find_split("tfds:mine", "test") == "test"
    data = TFDS().read("tfds:mine", "test", ReadOptions())
    assert len(data.records) == 2
    assert len(open_data("tfds:mine/1.9.0", "test").records) == 2


def test_a_name_that_is_not_prepared_says_how_to_prepare_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(EffkerasError, match=r"voc is not prepared in .*; run `tfds build voc`"):
        open_data("tfds:voc", "train")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "no feature is an image"),
        (features(), "no feature is a class; features: image"),
        (features(faces=group({"bbox": OBJECTS["bbox"]})), "the boxes in 'faces' have no class"),
        (features(**{"f" * 300: group(OBJECTS)}), "File name too long"),
    ],
)
def test_other_data_is_refused(tmp_path, content, problem):
    with pytest.raises(EffkerasError, match=problem):
        open_data(detection(tmp_path / "mine", content or {"a": 1}), "test")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tfrecord", "array_record"])
def test_what_tensorflow_datasets_writes_is_read(tmp_path, kind):
    pytest.importorskip("importlib_resources", reason="tensorflow-datasets needs it")
    import tensorflow_datasets as tfds

    content = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "objects": tfds.features.Sequence(
                {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
            ),
        }
    )
    one = {"bbox": tfds.features.BBox(0.1, 0.2, 0.5, 0.6), "label": 1}
    images = [
        (number, {"image": np.zeros((20, 30, 3), np.uint8), "objects": [one] * number}) for number in (0, 2)
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        "mine", "1.0.0", content, {"train": iter(images)}, data_dir=tmp_path, file_format=kind
    )
    data = TFDS().read(tmp_path / "mine" / "1.0.0", "train", ReadOptions())
    assert sorted(len(record.boxes) for record in data.records) == [0, 2]
    assert data.labels == ("cat", "dog")
