"""A detector with masks through every command: trained, measured, drawn, exported, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support.tiny import digits_folder, random_images, tiny_detector

import effkeras
from effkeras import cli
from effkeras.building.models import build_spec
from effkeras.data.masks import MaskClasses, label_map
from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_heads
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.evaluate import evaluate, headlines
from effkeras.inference.predict import draw, predict
from effkeras.inference.predictor import KerasPredictor
from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.runner import LiteRTModel
from effkeras.support.errors import EffkerasError
from effkeras.training.loop import Job, train
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import save
from quantize.accuracy import Accuracy
from quantize.post_training.quantization import ptq

QUICK = TrainSettings(epochs=1, batch=8, learning_rate=3e-3, validation_images=4)
OUTPUTS = {"class_logits", "box_deltas", "mask_logits"}


def spec_with(*heads: str) -> ModelSpec:
    return with_heads(tiny_detector(), heads)


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def rows(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A few images of digits with boxes and masks."""
    return digits_folder(tmp_path_factory.mktemp("data") / "masks", size=64, max_digits=3, masks="rle")


@pytest.fixture(scope="module")
def model():
    """Boxes and masks, with random weights."""
    return build_spec(spec_with("detect", "segment"))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "both.keras"
    save(model, path)
    return path


@pytest.fixture(scope="module")
def label_maps(data, tmp_path_factory) -> Path:
    """The same images with a PNG of classes each, as a data set without boxes."""
    root = tmp_path_factory.mktemp("data") / "maps"
    for split in ("train", "val", "test"):
        write_label_maps(data, split, root)
    (root / "labels.txt").write_text("paper\n" + "".join(f"{digit}\n" for digit in range(10)))
    return root


def write_label_maps(data: Path, split: str, root: Path) -> None:
    for kind in ("images", "masks"):
        (root / split / kind).mkdir(parents=True)
    for record in open_data(data, split, masks=True).records:
        (root / split / "images" / record.path.name).write_bytes(record.path.read_bytes())
        labels = label_map(record, MaskClasses(11, tuple(range(1, 11))), record.size)
        Image.fromarray(labels).save(root / split / "masks" / f"{record.path.stem}.png")


class Oracle:
    """A predictor that knows the masks: what is right must be judged right."""

    def __init__(self, spec: ModelSpec, labels: list[np.ndarray]):
        self.spec = spec
        self._labels = iter(labels)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        chosen = [next(self._labels)[2::4, 2::4] for _ in pixels]
        return {"mask_logits": np.eye(self.spec.mask_classes, dtype=np.float32)[np.stack(chosen)]}


def test_what_is_right_is_judged_right(data):
    """Masks at a quarter of the size, enlarged, are right but for the digits' outlines."""
    spec = spec_with("segment")
    test = open_data(data, "test", masks=True)
    truths = [label_map(one, MaskClasses(11, tuple(range(1, 11))), one.size) for one in test.records]
    assert evaluate(Oracle(spec, truths), test)["pixels"] > 0.95
    blank = [np.zeros_like(one) for one in truths]
    share = np.mean([one == 0 for one in truths])
    found = evaluate(Oracle(spec, blank), test)
    assert found["pixels"] == pytest.approx(share)
    assert found["mIoU"] == pytest.approx(share / len(np.unique(truths)))


def test_coco_masks_and_label_maps_are_judged_alike(data, label_maps):
    predictor = KerasPredictor.of(build_spec(spec_with("segment")))
    ours = evaluate(predictor, open_data(data, "test", masks=True))
    theirs = evaluate(predictor, open_data(label_maps, "test"))
    assert ours == theirs
    assert ours.keys() == {"mIoU", "pixels"}


def test_label_maps_of_other_values_are_judged_alike(label_maps, tmp_path):
    """The classes of the values are listed the other way round; only the background stays."""
    root = tmp_path / "maps"
    shutil.copytree(label_maps, root)
    (root / "labels.txt").write_text("paper\n" + "".join(f"{digit}\n" for digit in reversed(range(10))))
    table = np.array([0, *range(10, 0, -1), *[255] * 245], np.uint8)
    for file in root.glob("*/masks/*.png"):
        Image.fromarray(table[np.asarray(Image.open(file))]).save(file)
    predictor = KerasPredictor.of(build_spec(spec_with("segment")))
    wanted = evaluate(predictor, open_data(label_maps, "test"))
    assert wanted["mIoU"] > 0
    assert evaluate(predictor, open_data(root, "test")) == wanted


def test_headlines_are_one_a_head():
    assert headlines(spec_with("detect", "segment")) == ("AP", "mIoU")
    assert headlines(spec_with("segment")) == ("mIoU",)
    assert headlines(effkeras.spec("b0")) == ("top1",)


def test_an_artifact_is_refused_for_its_worse_head():
    before, after = {"AP": 0.5, "mIoU": 0.6, "pixels": 0.9}, {"AP": 0.51, "mIoU": 0.55, "pixels": 0.1}
    both = Accuracy("AP", "test", 9, before, after, ("mIoU",))
    assert both.drop == pytest.approx(-0.01)
    assert both.worst_drop == pytest.approx(0.05)
    assert Accuracy("AP", "test", 9, before, after).worst_drop == both.drop
    unknown = dataclasses.replace(both, artifact={**after, "AP": float("nan")})
    assert np.isnan(unknown.worst_drop)


def test_eval_prints_both_metrics(saved, data, capsys):
    assert run("eval", saved, "--data", data, "--limit", 4) == 0
    out = capsys.readouterr().out
    assert "AP50" in out
    assert "mIoU" in out


def test_predict_gives_masks_and_draws_them(model, data, tmp_path):
    image = next((data / "test" / "images").glob("*.jpg"))
    (record,) = predict(KerasPredictor.of(model), [image], 0.0)
    assert record.keys() == {"image", "picture", "detections", "masks"}
    assert json.loads(json.dumps(record)) == record
    for mask in record["masks"]:
        assert mask.keys() == {"label", "class", "pixels", "segmentation"}
        assert mask["label"] == str(mask["class"] - 1)
        assert mask["segmentation"]["size"] == [64, 64]
        assert sum(mask["segmentation"]["counts"][1::2]) == mask["pixels"]
    bright = {**record, "detections": [], "masks": [half_a_image()]}
    draw(bright, tmp_path / "out.png")
    before = Image.open(image).resize((384, 384), Image.Resampling.BICUBIC)
    change = np.abs(np.asarray(Image.open(tmp_path / "out.png"), int) - np.asarray(before, int)).max(axis=-1)
    assert (change[:, :180] > 3).mean() > 0.95
    assert (change[:, 204:] > 3).mean() < 0.05


def half_a_image() -> dict:
    counts = [0, 64 * 32, 64 * 32]
    return {
        "label": "1",
        "class": 2,
        "pixels": counts[1],
        "segmentation": {"size": [64, 64], "counts": counts},
    }


def test_artifacts_have_a_third_output(model):
    pixels = random_images(2, 64)
    found = LiteRTModel.of_bytes(ptq(model, "float32").flatbuffer)(pixels)
    wanted = {name: np.asarray(value) for name, value in model(pixels, training=False).items()}
    assert found.keys() == wanted.keys() == OUTPUTS
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4)
    assert found["mask_logits"].shape == (2, 16, 16, 11)


@pytest.mark.slow
def test_int8_masks_are_those_of_the_model(data):
    """Randomised so that classes differ: 8 of 10 pixels keep theirs."""
    keras.utils.set_random_seed(0)
    model = build_spec(spec_with("detect", "segment"))
    draw_ = np.random.default_rng(0)
    last = model.get_layer("segment_predict")
    last.kernel.assign(draw_.normal(0, 0.5, last.kernel.shape))
    train_data = open_data(data, "train")
    artifact = LiteRTModel.of_bytes(ptq(model, "int8", train_data, io="int8", samples=16).flatbuffer)
    pixels = np.stack([np.asarray(Image.open(one.path), np.float32) for one in train_data.records[:4]])
    wanted = np.asarray(model(pixels, training=False)["mask_logits"]).argmax(axis=-1)
    assert len(np.unique(wanted)) > 2
    assert (artifact(pixels)["mask_logits"].argmax(axis=-1) == wanted).mean() > 0.8
    assert not ptq(model, "int8", train_data, io="int8", samples=2).left_in_float


@pytest.mark.slow
@pytest.mark.parametrize("size", [(33, 65), (100, 132)])
def test_odd_sizes_are_exported(size):
    spec = spec_with("segment").replace(input=dataclasses.replace(tiny_detector().input, size=size))
    assert to_flatbuffer(build_spec(spec))


@pytest.mark.slow
def test_masks_alone_are_trained_on_label_maps(label_maps, tmp_path):
    """No boxes anywhere; the classes are the data set's."""
    job = Job(
        spec_with("segment"),
        open_data(label_maps, "train"),
        open_data(label_maps, "val"),
        QUICK,
        tmp_path / "run",
    )
    train(job)
    spec = effkeras.spec(tmp_path / "run")
    assert spec.mask_labels == ("background", *map(str, range(10)))
    (epoch,) = rows(tmp_path / "run", "epoch")
    assert epoch["metrics"].keys() == {"mIoU", "pixels"}
    assert np.isfinite(epoch["loss"])


def one_error(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert lines[-1:] == errors
    return errors[0]


@pytest.mark.slow
def test_data_without_masks_is_one_line(digits, saved, tmp_path, capsys):
    words = ("train", "efficientdet-digits", "--heads", "detect,segment", "--data", digits)
    assert run(*words, "--out", tmp_path / "run") == 2
    assert "has no masks, which efficientdet-digits with the head segment needs" in one_error(capsys)
    assert not (tmp_path / "run").exists()
    assert run("eval", saved, "--data", digits) == 2
    assert "the split 'test' has no masks" in one_error(capsys)
    artifact = tmp_path / "x.tflite"
    assert run("export", "tflite", saved, "--recipe", "float32", "--data", digits, "--out", artifact) == 2
    assert "the split 'val' has no masks" in one_error(capsys)
    assert not artifact.exists()


def test_validation_without_masks_is_refused_before_training(digits, data, tmp_path):
    spec = spec_with("detect", "segment")
    job = Job(spec, open_data(data, "train", masks=True), open_data(digits, "val"), QUICK, tmp_path / "run")
    with pytest.raises(EffkerasError, match="the split 'val' has no masks"):
        train(job)
    assert not (tmp_path / "run").exists()


def test_label_maps_have_no_boxes_to_learn(label_maps, tmp_path, capsys):
    words = ("train", "efficientdet-digits", "--data", label_maps, "--out", tmp_path / "run")
    for heads in ((), ("--heads", "detect,segment")):
        assert run(*words, *heads) == 2
        assert "needs images with boxes" in one_error(capsys)


@pytest.mark.parametrize(
    ("heads", "message"), [("segmnet", "did you mean 'segment'"), ("", "there is no head ''")]
)
def test_unknown_heads_are_one_line(heads, message, data, tmp_path, capsys):
    words = ("train", "efficientdet-digits", "--heads", heads, "--data", data, "--out", tmp_path / "run")
    assert run(*words) == 2
    assert message in one_error(capsys)


def test_info_tells_of_masks(tmp_path, capsys):
    (tmp_path / "d.toml").write_text('base = "efficientdet-digits"\nheads = ["detect", "segment"]\n')
    assert run("info", tmp_path / "d.toml") == 0
    assert "11 classes, 32 x 32" in capsys.readouterr().out


@pytest.mark.nightly("training")
def test_a_trained_detector_learns_masks(tmp_path, capsys):
    """The digits detector, 200 steps: half the area of digits and paper is right, and int8 keeps it."""
    folder, out = tmp_path / "data", tmp_path / "run"
    counts = ("--train", 400, "--val", 20, "--test", 80)
    assert run("data", "digits", folder, "--masks", "rle", *counts) == 0
    config = tmp_path / "train.toml"
    config.write_text(
        "epochs = 8\nlearning_rate = 6e-3\nwarmup_epochs = 0.5\nema = 0.98\nvalidation_images = 20\n"
        "[augment]\nflip = false\nscale = [0.9, 1.1]\n"
    )
    words = ("--heads", "detect,segment", "--weights", "digits", "--config", config)
    assert run("train", "efficientdet-digits", *words, "--data", folder, "--out", out) == 0
    assert run("eval", out, "--data", folder) == 0
    assert run("export", "tflite", out, "--data", folder, "--max-drop", 0.02) == 0
    (measured,) = rows(out, "eval")
    assert measured["metrics"]["mIoU"] > 0.5
    assert measured["metrics"]["AP"] > 0.6
    (export,) = rows(out, "export")
    assert export["float_metrics"]["mIoU"] - export["artifact_metrics"]["mIoU"] < 0.02
    assert export["delegated_ops"] == export["total_ops"]
    assert run("eval", out / "artifacts" / "int8.tflite", "--data", folder) == 0
    assert rows(out, "eval")[1]["metrics"]["mIoU"] == export["artifact_metrics"]["mIoU"]
