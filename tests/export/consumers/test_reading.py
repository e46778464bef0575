"""Artifacts with NMS inside go through prediction and evaluation like any other model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image
from support.tiny import digits_folder
from support.tiny_models import quantized, random_images, tiny_spec

import effkeras
from effkeras.data.splits import open_data
from effkeras.detection.nms import Decoder
from effkeras.inference.evaluate import evaluate, evaluate_in_detail
from effkeras.inference.predict import predict
from effkeras.litert.runner import LiteRTModel
from effkeras.weights.keras_files import save
from export.consumers.consumer import target_for
from export.finishing import with_nms
from export.tflite import ExportOptions, export_tflite
from quantize import attempts, driver
from quantize.formats import find as recipe
from quantize.post_training.quantization import float_parts, quantize_parts

NAME = "efficientdet-lite0"


@pytest.fixture(scope="module")
def models():
    """The same float network: heads, and with the evaluator's own NMS inside, for three consumers."""
    plain = quantized(NAME, "float32").flatbuffer
    targets = [target_for(name, recipe("float32"), nms="soft") for name in ("raw", "mediapipe")]
    targets.append(target_for("coral", recipe("int8"), nms="soft"))
    own = [LiteRTModel.of_bytes(with_nms(plain, tiny_spec(NAME), target)) for target in targets]
    return LiteRTModel.of_bytes(plain), own


def test_predictions_are_those_of_the_heads(models, tmp_path):
    file = tmp_path / "wide.png"  # letterboxed: boxes come back in its own pixels
    Image.fromarray(random_images(1)[0].astype(np.uint8)).resize((150, 90)).save(file)
    plain, own = models
    (wanted,) = predict(plain, [file], 0.1)
    assert len(wanted["detections"]) > 3
    for model in own:
        (got,) = predict(model, [file], 0.1)
        assert len(got["detections"]) == len(wanted["detections"])
        for one, other in zip(got["detections"], wanted["detections"], strict=True):
            assert one["class"] == other["class"]
            assert one["score"] == pytest.approx(other["score"], abs=2e-4)
            assert one["box"] == pytest.approx(other["box"], abs=0.11)


def test_the_evaluator_sees_the_same_boxes(models):
    plain, own = models
    spec = plain.spec
    shown = random_images(3)
    wanted = [Decoder.of(spec).found(one) for one in _rows(plain(shown))]
    for model in own:
        for one, other in zip(wanted, _rows(model(shown)), strict=True):
            got = Decoder.of(spec).found(other)
            np.testing.assert_allclose(got.scores, one.scores, atol=1e-5)
            np.testing.assert_allclose(got.boxes[:10], one.boxes[:10], atol=1e-3)


def _rows(outputs: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    count = len(next(iter(outputs.values())))
    return [{name: values[place] for name, values in outputs.items()} for place in range(count)]


def once(function):
    """The function, whose first answer is all later ones."""
    answers = []

    def answer(*given):
        if not answers:
            answers.append(function(*given))
        return answers[0]

    return answer


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped detector in int8: its data, its heads, and what is written for each consumer.

    It is measured once, as in any run folder, and converted and quantized once, which takes the time.
    """
    root = digits_folder(tmp_path_factory.mktemp("digits"), size=128, train=16, val=8, test=40)
    run = tmp_path_factory.mktemp("runs") / "digits"
    run.mkdir()
    save(effkeras.build("efficientdet-digits", weights="digits"), run / "model.keras")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "float_parts", once(float_parts))
        patch.setattr(attempts, "quantize_parts", once(quantize_parts))
        for consumer, nms in (("raw", "none"), ("mediapipe", "postprocess"), ("coral", "postprocess")):
            out = run / f"{consumer}.tflite"
            options = ExportOptions(data=root, io="uint8", out=out, consumer=consumer, nms=nms)
            made[consumer] = export_tflite(run, options)
    return root, made


@pytest.mark.slow
def test_the_metric_is_that_of_the_file(shipped):
    root, made = shipped
    data = open_data(root, "test", skip_bad=False)
    for report in made.values():
        assert report.passed, report.problems
        found = evaluate(LiteRTModel.open(report.file), data)
        assert found == report.accuracy.artifact
        assert found["AP"] > 0.7
        assert report.accuracy.drop < 0.1
    assert made["mediapipe"].accuracy.artifact == made["coral"].accuracy.artifact


@pytest.mark.slow
@pytest.mark.parametrize("consumer", ["mediapipe", "coral"])
def test_boxes_and_scores_are_those_of_our_own_suppression(shipped, consumer):
    """At least a hundred boxes at IoU 0.99 and more, scores within 1/128: of the same int8 heads."""
    root, made = shipped
    data = open_data(root, "test", skip_bad=False)
    heads, own = (LiteRTModel.open(made[name].file) for name in ("raw", consumer))
    hard = dataclasses.replace(heads.spec.nms, method="hard", max_inputs=0)
    heads = dataclasses.replace(heads, spec=heads.spec.replace(nms=hard))
    wanted, got = (evaluate_in_detail(one, data).judges["detection"].found for one in (heads, own))
    sure = {image: one.above(0.3) for image, one in wanted.items()}
    assert sum(map(len, sure.values())) >= 100
    for image, one in sure.items():
        other = got[image].above(0.3)
        assert len(other) == len(one)
        np.testing.assert_array_equal(other.classes, one.classes)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-6)
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.01)


@pytest.mark.slow
def test_the_commands_take_such_files(shipped, capsys):
    from effkeras.cli import main

    root, made = shipped
    file = str(made["coral"].file)
    assert main(["eval", file, "--data", str(root)]) == 0
    assert f"{made['coral'].accuracy.artifact['AP']:.4f}" in capsys.readouterr().out
    image = open_data(root, "test", skip_bad=False).records[0].path
    assert main(["predict", file, str(image)]) == 0
    assert '"detections": [{"label"' in capsys.readouterr().out
