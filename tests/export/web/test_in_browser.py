"""In a real browser, with the real LiteRT.js, the page finds what `effkeras predict` finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny import digits_folder
from support.web_page import messages, prediction

import effkeras
from effkeras.data.images import read_image
from effkeras.data.preprocess import network_input
from effkeras.detection.boxes import iou
from effkeras.inference.predict import predict
from effkeras.inference.predictor import open_predictor
from effkeras.support.errors import EffkerasError
from export.web.page import write_page
from export.web.runtime import find_runtime
from export.web.server import serving
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts, quantize_pixels

MODELS = ("efficientdet-digits", "efficientnet-digits")
SIZES = ((128, 128), (96, 150), (150, 96), (201, 133), (64, 64), (128, 128), (300, 220), (90, 91))
TURNED = 6  # Exif: rotate by a quarter


@pytest.fixture(scope="module")
def runtime():
    try:
        return find_runtime()
    except EffkerasError as error:
        pytest.skip(f"no LiteRT.js: {error}")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Ten images with digits: JPEG and PNG, of several sizes, one turned, one with transparency."""
    folder = tmp_path_factory.mktemp("images")
    drawn = digits_folder(folder / "digits", train=1, val=1, test=10, size=128) / "test" / "images"
    sources = sorted(drawn.glob("*.jpg"))
    made = sources[:2]
    exif = Image.Exif()
    exif[0x0112] = TURNED
    for number, (source, size) in enumerate(zip(sources[2:], SIZES, strict=True)):
        image = Image.open(source).resize(size, Image.Resampling.BICUBIC)
        if number == 5:
            path = folder / f"{number}.jpg"
            image.save(path, exif=exif, quality=95)
        else:
            path = folder / f"{number}.png"
            if number == 6:
                image.putalpha(Image.linear_gradient("L").resize(size))
            image.save(path)
        made.append(path)
    return made


@pytest.fixture(scope="module")
def artifacts(images) -> dict[tuple[str, str], bytes]:
    """Float32 and int8 files of the shipped detector and classifier."""
    made = {}
    for name in MODELS:
        model, spec = effkeras.build(name, weights="digits"), effkeras.spec(name)
        calibration = np.stack([network_input(read_image(path), spec.input) for path in images])[:, None]
        parts = float_parts(model, PtqOptions(find("int8"), "float32"))
        for recipe in ("float32", "int8"):
            options = PtqOptions(find(recipe), "float32")
            made[name, recipe] = quantize_pixels(parts, options, calibration).flatbuffer
    return made


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["float32", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_the_page_finds_what_predict_finds(name, recipe, artifacts, images, runtime, browser, tmp_path):
    file, folder = tmp_path / "model.tflite", tmp_path / "page"
    file.write_bytes(artifacts[name, recipe])
    write_page(file.read_bytes(), folder, runtime, images)
    wanted = list(predict(open_predictor(file), images, 0.0))
    with serving(folder) as address:
        page = browser.new_page()
        page.go(address)
        samples = page.evaluate("effkeras.then(model => model.about.samples)")
        found = [prediction(page, path, 0.0) for path in samples]
        assert messages(page) == []
    assert len(found) == len(images) == 10
    compare = assert_same_detections if name == MODELS[0] else assert_same_classes
    for one, other in zip(wanted, found, strict=True):
        compare(one, other)


def assert_same_classes(wanted, found):
    assert wanted["classes"][0]["label"] == found["classes"][0]["label"]
    scores = [{one["label"]: one["score"] for one in record["classes"]} for record in (wanted, found)]
    common = scores[0].keys() & scores[1].keys()
    assert len(common) >= 4  # the fifth may be as unlikely as the sixth
    for label in common:
        assert scores[0][label] == pytest.approx(scores[1][label], abs=1 / 128)


def assert_same_detections(wanted, found, from_score=0.3, near=1 / 128):
    """Each detection from the score on is among the others; the score itself may fall to either side."""
    assert any(one["score"] >= from_score for one in wanted["detections"]), wanted["image"]
    for some, others in ((wanted, found), (found, wanted)):
        for one in some["detections"]:
            if one["score"] >= from_score:
                assert any(is_same(one, other, near) for other in others["detections"]), (
                    one,
                    wanted["image"],
                )


def is_same(one, other, near):
    boxes = np.array([one["box"], other["box"]], np.float32)
    return (
        one["label"] == other["label"]
        and abs(one["score"] - other["score"]) <= near
        and iou(boxes[0], boxes[1:])[0] >= 0.99
    )
