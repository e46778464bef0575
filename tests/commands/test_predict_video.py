"""`effkeras predict` on videos: a line a frame, and the video with what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from support.tiny import digits_folder, tiny_classifier

from effkeras.cli import main
from effkeras.data.formats.coco import read_coco
from effkeras.data.images import read_image
from effkeras.data.records import DetectionRecord
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.boxes import iou
from effkeras.inference.video import open_video

RATE = 10


@dataclass(frozen=True)
class Brightness:
    """Says class k of an image as bright as 25 k."""

    spec: ModelSpec

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        level = np.rint(pixels.mean(axis=(1, 2, 3)) / 25).astype(int)
        return {"probabilities": np.eye(self.spec.classes, dtype=np.float32)[level]}


@pytest.fixture
def brightness(monkeypatch):
    predictor = Brightness(tiny_classifier())
    monkeypatch.setattr("effkeras.inference.predictor.open_predictor", lambda *_: predictor)


@pytest.fixture
def brighter(tmp_path) -> Path:
    """Ten frames, each brighter by 25."""
    return make(tmp_path / "brighter.mp4", [np.full((48, 64, 3), 25 * i, np.uint8) for i in range(10)])


def make(path: Path, frames: list[np.ndarray]) -> Path:
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=RATE, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def said(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_a_frame_with_number_and_time(brightness, brighter, capsys):
    assert main(["predict", "any", str(brighter)]) == 0
    records = said(capsys)
    assert [record["frame"] for record in records] == list(range(10))
    np.testing.assert_allclose([record["time"] for record in records], np.arange(10) / RATE, atol=1e-6)
    assert [record["classes"][0]["class"] for record in records] == list(range(10))
    assert {record["video"] for record in records} == {str(brighter)}


def test_every_third_frame_and_all_frames_in_the_drawing(brightness, brighter, tmp_path, capsys):
    assert main(["predict", "any", str(brighter), "--every", "3", "--save", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["frame"] for line in captured.out.splitlines()] == [0, 3, 6, 9]
    assert "out/brighter.mp4" in captured.err
    with open_video(tmp_path / "out" / "brighter.mp4") as video:
        assert video.rate == RATE
        frames = list(video)
    assert len(frames) == 10
    assert frames[0].pixels.shape == (288, 384, 3)  # small images are enlarged to keep labels readable


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["VIDEO", "--save", "HERE"], "would overwrite"),
        (["VIDEO", "--every", "0"], "not above 0"),
        (["gone.mp4"], "there is no video gone.mp4"),
        (["IMAGE", "--every", "2"], "--every goes with a video"),
        (["IMAGE", "--save", "HERE"], "would overwrite"),
        (["CUT"], "damaged at its start"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words, message, brightness, brighter, tmp_path, capsys):
    cut, image = tmp_path / "cut.mp4", tmp_path / "image.png"
    cut.write_bytes(brighter.read_bytes()[:1000])
    av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24").to_image().save(image)
    places = {"VIDEO": brighter, "HERE": tmp_path, "CUT": cut, "IMAGE": image}
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["predict", "any", *(str(places.get(word, word)) for word in words)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_digits_are_followed_through_a_video(tmp_path, capsys):
    """A window that moves over an image: its digits move the other way, and their boxes are known."""
    folder = digits_folder(tmp_path / "data", size=160, max_digits=8, test=12)
    shifts = [(i, 32 - 2 * i) for i in range(12)]  # rows, columns
    records = read_coco(folder, "test").records
    record = max(records, key=lambda one: sum(whole(one, shift).sum() for shift in shifts))
    image = read_image(record.path)
    video = make(tmp_path / "moving.mp4", [image[y : y + 128, x : x + 128] for y, x in shifts])
    words = [
        "predict",
        "efficientdet-digits",
        str(video),
        "--weights",
        "digits",
        "--save",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    records = said(capsys)
    assert len(records) == len(shifts)
    found = [
        one for record_, shift in zip(records, shifts, strict=True) for one in matches(record, shift, record_)
    ]
    assert len(found) >= 2 * len(shifts)
    assert np.mean(found) > 0.85
    with open_video(tmp_path / "out" / "moving.mp4") as drawn:
        assert (drawn.frames, drawn.rate) == (len(shifts), RATE)


def whole(truth: DetectionRecord, shift: tuple[int, int]) -> np.ndarray:
    """Which digits lie wholly in the window."""
    boxes = truth.boxes - np.tile(shift, 2)
    return (boxes.min(axis=1) >= 0) & (boxes.max(axis=1) <= 128)


def matches(truth: DetectionRecord, shift: tuple[int, int], answer: dict) -> list[bool]:
    """For each digit that lies wholly in the window, whether it was found with its class."""
    chosen = whole(truth, shift)
    boxes = (truth.boxes - np.tile(shift, 2))[chosen].astype(np.float32)
    return [
        any(
            one["class"] == label and iou(box, np.array([one["box"]], np.float32))[0] > 0.6
            for one in answer["detections"]
        )
        for box, label in zip(boxes, truth.classes[chosen], strict=True)
    ]
