from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_models import parts, random_images, tiny_spec

from effkeras import EffkerasError
from effkeras.data.preprocess import network_input
from effkeras.data.records import (
    Category,
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
)
from quantize.post_training.calibration import calibration_pixels, representative
from quantize.post_training.ranges import measure_ranges

NAME = "efficientdet-lite0"


def classified(labels: list[int]) -> ClassificationData:
    records = [ClassificationRecord(Path(f"{i}.png"), label) for i, label in enumerate(labels)]
    return ClassificationData(Path("data"), "train", ("a", "b", "c"), tuple(records))


def detected(classes: list[list[int]]) -> DetectionData:
    def record(index: int, labels: list[int]) -> DetectionRecord:
        count = len(labels)
        boxes, flags = np.zeros((count, 4), np.float32), np.zeros(count, bool)
        path = Path(f"{index}.png")
        return DetectionRecord(path, index, (8, 8), boxes, np.array(labels, int), flags, flags.astype(float))

    records = tuple(record(index, labels) for index, labels in enumerate(classes))
    return DetectionData(Path("data"), "train", (Category(1, "a"), Category(2, "b")), records)


def test_classes_take_turns_however_uneven_they_are():
    data = classified([0] * 90 + [1] * 5 + [2] * 5)
    counts = Counter(record.label for record in representative(data, 12))
    assert counts == {0: 4, 1: 4, 2: 4}


def test_small_classes_run_out_and_the_others_go_on():
    data = classified([0] * 9 + [1])
    counts = Counter(record.label for record in representative(data, 6))
    assert counts == {0: 5, 1: 1}


def test_no_image_twice_and_all_when_asked_for_more():
    data = detected([[0, 1], [0], [1], [], [0, 0, 1]])
    chosen = representative(data, 100)
    assert sorted(record.image_id for record in chosen) == [0, 1, 2, 3, 4]
    assert chosen[-1].image_id == 3  # background comes last


def test_the_seed_decides():
    data = classified([0, 1, 2] * 20)
    assert representative(data, 10, seed=1) == representative(data, 10, seed=1)
    assert representative(data, 10, seed=1) != representative(data, 10, seed=2)


def test_fewer_are_the_start_of_more():
    data = classified([0, 1, 2] * 20)
    assert representative(data, 20)[:10] == representative(data, 10)


def test_nothing_to_choose_from():
    with pytest.raises(EffkerasError, match="no images"):
        representative(classified([]), 3)
    with pytest.raises(EffkerasError, match="at least 1 image"):
        representative(classified([0]), 0)


def test_pixels_are_what_the_network_sees(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    spec = tiny_spec(NAME).input
    (pixels,) = calibration_pixels([ClassificationRecord(tmp_path / "a.png", 0)], spec)
    np.testing.assert_array_equal(pixels[0], network_input(image, spec))


def test_one_bad_image_is_noted_and_many_are_refused(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    good = ClassificationRecord(tmp_path / "a.png", 0)
    bad = ClassificationRecord(tmp_path / "b.png", 0)
    spec = tiny_spec(NAME).input
    assert len(list(calibration_pixels([good, bad], spec))) == 1
    assert "b.png" in capsys.readouterr().err
    with pytest.raises(EffkerasError, match=r"b\.png"):
        list(calibration_pixels([good, bad, bad], spec))
    with pytest.raises(EffkerasError, match=r"b\.png"):
        list(calibration_pixels([bad], spec))
    assert len(list(calibration_pixels([bad, good, bad], spec, skip_bad=True))) == 1
    with pytest.raises(EffkerasError, match=r"b\.png"):
        list(calibration_pixels([bad, bad], spec, skip_bad=True))


def test_ranges_span_all_images_in_any_order():
    flatbuffer = parts(NAME, "float32").flatbuffer
    inputs = list(random_images(3)[:, None])
    ranges = measure_ranges(flatbuffer, inputs)
    assert ranges["image"]["min"] == np.min(inputs)
    assert ranges["image"]["max"] == np.max(inputs)
    assert {"class_logits", "box_deltas"} <= ranges.keys()
    assert measure_ranges(flatbuffer, inputs[::-1]) == ranges


def test_ranges_need_a_image():
    with pytest.raises(EffkerasError, match="check --data"):
        measure_ranges(parts(NAME, "float32").flatbuffer, [])
