"""The `mediapipe` package opens our files and finds in images what we find."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.tiny import digits_folder

import effkeras
from effkeras.data.images import read_image
from effkeras.data.preprocess import fill, place
from effkeras.data.splits import open_data
from effkeras.detection.boxes import iou
from effkeras.detection.nms import Decoder, Detections
from effkeras.litert.runner import LiteRTModel
from export.consumers.consumer import Nms, nms_settings
from export.metadata import ScoreCalibration, attach, of_classifier
from export.metadata.attaching import with_calibration
from export.tflite import ExportOptions, export_tflite
from quantize.post_training.quantization import ptq

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-mediapipe" / "bin" / "python"
JUDGE = ROOT / "tests" / "support" / "mediapipe_judge.py"

ENLARGED = 32  # boxes come in whole pixels, cut off
CLOSE = 1 / 128
SAME = 1e-5  # another build of the same kernels
SURE = 0.3  # below, scores so close to each other that suppression may end otherwise

pytestmark = pytest.mark.nightly("mediapipe")


@pytest.fixture(scope="session")
def mediapipe():
    """Runs the judge in its environment, which the Makefile makes when it is not there."""
    made = subprocess.run(["make", "mediapipe-env"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr

    def judge(task: str, flatbuffer: bytes, images: np.ndarray, folder: Path, enlarged: int = 1) -> list:
        (folder / "judged.tflite").write_bytes(flatbuffer)
        np.save(folder / "images.npy", np.rint(images).astype(np.uint8))
        words = [PYTHON, JUDGE, task, folder / "judged.tflite", folder / "images.npy", str(enlarged)]
        said = subprocess.run(words, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        return [json.loads(line) for line in said.stdout.splitlines()]

    return judge


def prepared(paths: list[Path], spec) -> np.ndarray:
    """Images as the model takes them, whole pixels."""
    placed = [place(read_image(path), spec.input).content for path in paths]
    return np.rint(np.stack([fill(one, spec.input) for one in placed]))


def check_top_five(outputs: dict[str, np.ndarray], labels, got: list) -> None:
    """Equal classes in equal order; classes of the very same score may change places."""
    (scores,) = outputs.values()
    assert len(got) == len(scores)
    for ours, theirs in zip(scores, got, strict=True):
        best = np.sort(ours)[::-1][:5]
        np.testing.assert_allclose([score for _, score in theirs], best, atol=SAME)
        np.testing.assert_allclose([ours[labels.index(name)] for name, _ in theirs], best, atol=SAME)
        assert len({name for name, _ in theirs}) == 5


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """Images of digits, to calibrate on and to judge by."""
    root = digits_folder(tmp_path_factory.mktemp("classes"), classify=True, train=64, test=100)
    return root, [record.path for record in open_data(root, "test", skip_bad=False).records]


@pytest.mark.parametrize("name", ["efficientnet-digits", "efficientnet-digits-b0"])
@pytest.mark.parametrize(("recipe", "io"), [("float32", "float32"), ("int8", "uint8"), ("int8", "float32")])
def test_shipped_classifiers(name, recipe, io, mediapipe, classified, tmp_path):
    root, paths = classified
    file = tmp_path / "net.tflite"
    options = ExportOptions(
        recipe, io, root, samples=64, limit=20, weights="digits", out=file, consumer="mediapipe"
    )
    report = export_tflite(name, options)
    assert report.passed, report.problems
    images = prepared(paths, report.spec)
    got = mediapipe("classify", file.read_bytes(), images, tmp_path)
    check_top_five(LiteRTModel.open(file)(images), report.spec.labels, got)
    assert len({one[0][0] for one in got}) == 10  # every digit wins somewhere


def test_calibrated_scores(mediapipe, classified, tmp_path):
    """Platt's sigmoid of each class's logarithm; a class without one gets the default score."""
    _, paths = classified
    flatbuffer = ptq(effkeras.build("efficientnet-digits", weights="digits"), "float32").flatbuffer
    parameters = [(1.0, 0.5 + 0.1 * digit, 0.3) for digit in range(9)]
    lines = "".join(f"{scale},{slope},{offset}\n" for scale, slope, offset in parameters) + "\n"
    calibrated = with_calibration(flatbuffer, ScoreCalibration("LOG", 0.125), lines.encode())
    runner = LiteRTModel.of_bytes(calibrated)
    images = prepared(paths[:30], runner.spec)
    (scores,) = runner(images).values()
    scale, slope, offset = np.transpose(parameters)
    wanted = np.full_like(scores, 0.125)
    wanted[:, :9] = scale / (1 + np.exp(-(slope * np.log(np.maximum(scores[:, :9], 1e-16)) + offset)))
    got = mediapipe("classify", calibrated, images, tmp_path)
    check_top_five({"scores": wanted}, runner.spec.labels, got)


def photographs() -> list[np.ndarray]:
    """The colour photographs that scikit-learn and scikit-image ship."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    return [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea()]


def views(spec) -> np.ndarray:
    """Pieces of each photograph, as the model takes them, whole pixels."""
    random = np.random.default_rng(0)
    pieces = []
    for image in photographs():
        for _ in range(5):
            top, left = (random.integers(0, side - 260) for side in image.shape[:2])
            placed = place(image[top : top + 256, left : left + 256], spec.input)
            pieces.append(fill(placed.content, spec.input))
    return np.rint(np.stack(pieces))


@pytest.mark.parametrize(("recipe", "io"), [("float32", "float32"), ("int8", "uint8")])
def test_a_thousand_classes_on_photographs(recipe, io, mediapipe, tmp_path):
    """EfficientNet-Lite0 at random weights, made to tell photographs apart."""
    model = effkeras.build("efficientnet-lite0")
    spec = effkeras.spec("efficientnet-lite0")
    images = views(spec)
    sharpen(model, images)
    labels = [f"class {index}" for index in range(spec.classes)]
    made = ptq(model, recipe, images[:, None] if recipe == "int8" else None, io=io).flatbuffer
    flatbuffer = attach(made, of_classifier(spec, labels, made))
    got = mediapipe("classify", flatbuffer, images, tmp_path)
    check_top_five(LiteRTModel.of_bytes(flatbuffer)(images), labels, got)
    assert len({one[0][0] for one in got}) > 5


def sharpen(model, images: np.ndarray) -> None:
    """Fits the statistics to the images, and scales the classifier so that probabilities differ."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    for _ in range(6):
        model(images, training=True)
    dense = model.get_layer("logits")
    logits = keras.Model(model.input, dense.output).predict_on_batch(images)
    scale = 3 / logits.std(axis=0)
    dense.kernel.assign(dense.kernel * scale)
    dense.bias.assign((dense.bias - logits.mean(axis=0)) * scale)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Gives the shipped detector as exported, each kind made once, and images of digits to judge by."""
    root = digits_folder(tmp_path_factory.mktemp("boxes"), size=128, train=32, val=8, test=48)
    folder = tmp_path_factory.mktemp("detectors")

    @functools.cache
    def export(recipe: str, io: str, consumer: str, nms: str) -> Path:
        file = folder / f"{recipe}-{io}-{consumer}-{nms}.tflite"
        data = root if recipe == "int8" else None
        options = ExportOptions(
            recipe, io, data, samples=32, limit=4, weights="digits", out=file, consumer=consumer, nms=nms
        )
        report = export_tflite("efficientdet-digits", options)
        assert report.passed, report.problems
        return file

    return export, [record.path for record in open_data(root, "test", skip_bad=False).records]


@pytest.mark.parametrize(
    ("recipe", "io", "consumer", "nms"),
    [
        ("float32", "float32", "mediapipe", "postprocess"),
        ("int8", "uint8", "mediapipe", "postprocess"),
        ("int8", "uint8", "mediapipe", "soft"),
        ("int8", "float32", "mediapipe", "postprocess"),
        ("float32", "float32", "raw", "none"),
        ("int8", "uint8", "raw", "none"),
    ],
)
def test_the_shipped_detector(recipe, io, consumer, nms, mediapipe, exported, tmp_path):
    """At least a hundred boxes at IoU 0.99 and more, with scores within 1/128 of our own evaluator's."""
    export, paths = exported
    heads = LiteRTModel.open(export(recipe, io, "raw", "none"))
    images, labels = prepared(paths, heads.spec), heads.spec.labels
    judged = export(recipe, io, consumer, nms).read_bytes()
    got = mediapipe("detect", judged, images, tmp_path, ENLARGED)
    wanted = own_detections(heads, images, "soft" if nms == "soft" else "hard")
    matched = sum(_matched(ours, theirs, labels) for ours, theirs in zip(wanted, got, strict=True))
    found = sum(map(len, wanted))
    assert matched >= 100
    reordered = (recipe, consumer) == ("int8", "raw") or nms == "soft"
    assert matched >= found * (0.9 if reordered else 1)  # see _matched
    assert sum(one[1] >= SURE + CLOSE for theirs in got for one in theirs) <= found  # nothing invented


def own_detections(heads: LiteRTModel, images: np.ndarray, nms: Nms) -> list[Detections]:
    """What our evaluator finds; hard suppression is what MediaPipe and its operator do."""
    decoder = Decoder.of(heads.spec)
    settings = dataclasses.replace(nms_settings(decoder.nms, nms), max_inputs=0)
    decoder = dataclasses.replace(decoder, nms=settings)
    outputs = heads(images)
    rows = ({name: values[i] for name, values in outputs.items()} for i in range(len(images)))
    return [decoder.found(row).above(SURE) for row in rows]


def _matched(ours: Detections, theirs: list, labels) -> int:
    """How many of our boxes they have too.

    Of neighbours with the very same score, which int8 heads often give, suppression keeps the first; from
    raw heads, and in built-in operators, the order is another one than ours.
    """
    count = 0
    for box, score, index in zip(ours.boxes, ours.scores, ours.classes, strict=True):
        same = [one for one in theirs if one[0] == labels[index] and abs(one[1] - score) <= CLOSE]
        overlaps = iou(box, np.array([one[2] for one in same]).reshape(-1, 4))
        count += bool(len(same) and overlaps.max() >= 0.99)
    return count
