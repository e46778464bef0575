"""A whole recipe: what it leaves behind, that it goes on where it stopped, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from support.tiny import digits_folder, tiny_classifier
from support.tiny_models import with_last_weights

import effkeras
from effkeras import EffkerasError
from effkeras.building.external import adopt
from effkeras.building.models import build_spec
from effkeras.data.augmentations import AugmentSpec
from effkeras.data.contents import contents
from effkeras.data.records import Polygons, RunLengths
from effkeras.data.splits import open_data
from effkeras.inference.compare import measure as measured
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.litert.runner import LiteRTModel
from effkeras.support import results
from effkeras.support.locks import working_in
from effkeras.training import session
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import save
from quantize import accuracy, attempts, compress, prune, recipes
from quantize.command import main
from quantize.compression import CompressOptions
from quantize.magnitude.sparsity import sparsity_of
from quantize.post_training.quantization import quantize_parts
from quantize.specs import PruneSpec, PtqSpec, TuneSpec
from quantize.splits import Splits

QUICK = TuneSpec(epochs=2, batch=8, learning_rate=1e-3)


def tuned(name: str, tune: TuneSpec = QUICK) -> recipes.Recipe:
    return dataclasses.replace(recipes.find(name), tune=tune)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return build_spec(tiny_classifier())


@pytest.fixture(scope="module")
def pruned(model, digit_classes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "prune50-int8"
    return folder, compress(model, tuned("prune50-int8"), digit_classes, CompressOptions(folder=folder))


def test_a_recipe_leaves_a_run_folder(pruned, digit_classes):
    folder, made = pruned
    artifact = LiteRTModel.open(folder / "artifacts" / "prune50-int8.tflite")
    assert artifact.spec == spec_of(made.model) == spec_of(effkeras.load(folder))
    (row,) = [row for row in results.read(folder / "results.jsonl") if row["kind"] == "compression"]
    assert row["bytes"] == (folder / "artifacts" / "prune50-int8.tflite").stat().st_size
    assert row["drop"] == pytest.approx(row["before"] - row["after"])
    assert row["interval"][0] <= row["drop"] <= row["interval"][1]
    reports = json.loads((folder / "report.json").read_text())
    assert [step["step"] for step in reports["steps"]] == ["prune", "ptq"]
    assert reports["steps"][0]["figures"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert {layer["what"] for step in reports["steps"] for layer in step["layers"]} == {"done", "skipped"}
    beside = json.loads((folder / "artifacts" / "prune50-int8.json").read_text())
    assert beside["recipe"] == tuned("prune50-int8").to_table()
    assert beside["report"]["drop"] == row["drop"]
    assert made.problems == ()


def test_the_model_that_is_given_stays(model, pruned):
    assert sparsity_of(model).kernel("head_conv").share == 0


def test_the_same_again_does_nothing_twice(pruned, model, digit_classes, capsys):
    folder, made = pruned
    before = (folder / "steps" / "1-prune" / "model.keras").stat().st_mtime_ns
    again = compress(model, tuned("prune50-int8"), digit_classes, CompressOptions(folder=folder))
    assert "done before" in capsys.readouterr().err
    assert (folder / "steps" / "1-prune" / "model.keras").stat().st_mtime_ns == before
    assert again.quantized.flatbuffer == made.quantized.flatbuffer


@pytest.mark.slow
def test_a_step_goes_on_after_its_last_epoch(pruned, model, digit_classes, tmp_path, monkeypatch):
    """Masks, schedule, optimizer and averages included: the result is the same to the bit."""

    class StopError(Exception):
        pass

    whole = session.Session.validate

    def interrupted(self, step, logs):
        whole(self, step, logs)
        raise StopError

    monkeypatch.setattr(session.Session, "validate", interrupted)
    options = CompressOptions(folder=tmp_path / "work")
    with pytest.raises(StopError):
        compress(model, tuned("prune50-int8"), digit_classes, options)
    assert not (tmp_path / "work" / "model.keras").exists()
    monkeypatch.undo()
    keras.utils.set_random_seed(99)
    resumed = compress(model, tuned("prune50-int8"), digit_classes, options)
    for ours, theirs in zip(resumed.model.get_weights(), pruned[1].model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_work_in_the_folder_is_refused(pruned, model, digit_classes):
    folder, _ = pruned
    with pytest.raises(EffkerasError, match="holds the work of another recipe"):
        compress(model, tuned("prune60-int8"), digit_classes, CompressOptions(folder=folder))
    other = build_spec(tiny_classifier())
    with pytest.raises(EffkerasError, match="holds work of other weights"):
        compress(other, tuned("prune50-int8"), digit_classes, CompressOptions(folder=folder))
    fewer = Splits.open(digit_classes, spec_of(model)).shortened(10)
    with pytest.raises(EffkerasError, match="holds work of other data"):
        compress(model, tuned("prune50-int8"), fewer, CompressOptions(folder=folder))
    options = CompressOptions(folder=folder, settings=TrainSettings(augment=AugmentSpec({"flip": False})))
    with pytest.raises(EffkerasError, match="holds work of other training settings"):
        compress(model, tuned("prune50-int8"), digit_classes, options)


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("recipe.toml", "it is written anew"),
        ("source.json", "it is written anew"),
        ("steps/1-prune/report.json", "the step prune is finished again from its checkpoint"),
        ("steps/1-prune/model.keras", "the step prune is finished again from its checkpoint"),
        ("steps/1-prune/begun.json", "the step prune begins again"),
        ("steps/1-prune/begun.keras", "the step prune begins again"),
    ],
)
def test_a_damaged_work_file_is_one_line(name, cost, pruned, model, digit_classes, tmp_path):
    folder = shutil.copytree(pruned[0], tmp_path / "work")
    if "begun" in name:
        (folder / "steps" / "1-prune" / "report.json").unlink()
    (folder / name).write_bytes((folder / name).read_bytes()[:-40] + b"\n]")
    with pytest.raises(EffkerasError, match=rf"{name} is damaged \(.*\); delete it, and {cost}") as caught:
        compress(model, tuned("prune50-int8"), digit_classes, CompressOptions(folder=folder))
    assert "\n" not in str(caught.value)


def test_a_folder_is_compressed_into_once_at_a_time(pruned, model, digit_classes):
    with (
        working_in(pruned[0], "effkeras quantize"),
        pytest.raises(EffkerasError, match=r"quantize .* works on"),
    ):
        compress(model, tuned("prune50-int8"), digit_classes, CompressOptions(folder=pruned[0]))


def test_data_that_was_moved_is_the_same(digit_classes, tmp_path):
    data = open_data(digit_classes, "train")
    shutil.copytree(digit_classes, tmp_path / "moved")
    assert contents(open_data(tmp_path / "moved", "train")) == contents(data)
    assert contents(dataclasses.replace(data, records=data.records[1:])) != contents(data)


def test_other_labels_are_other_data(digits):
    data = open_data(digits, "train")
    first, *others = data.records

    def digest(**changes) -> str:
        changed = dataclasses.replace(first, **changes)
        return contents(dataclasses.replace(data, records=(changed, *others)))

    square = Polygons((np.float32([[0, 0], [0, 9], [9, 9]]),))
    runs = RunLengths(np.array([3, 5, 20]))
    labelled = [
        {},
        {"boxes": first.boxes + 1},
        {"crowd": ~first.crowd},
        {"masks": (square,) * len(first.boxes)},
        {"masks": (runs,) * len(first.boxes)},
        {"masks": (None, *(runs,) * (len(first.boxes) - 1))},
        {"masks": data.root / "train" / "masks" / "0.png"},
    ]
    assert len({digest(**changes) for changes in labelled}) == len(labelled)
    assert digest() == contents(data)


def test_what_a_budget_may_need_is_asked_before_any_work(model, digit_classes, tmp_path):
    other = dataclasses.replace(tuned("prune50-int8"), ptq=PtqSpec(backend="tensorflow"))
    options = CompressOptions(max_drop=0.01, folder=tmp_path / "work")
    with pytest.raises(EffkerasError, match="use ai-edge-quantizer"):
        compress(model, other, digit_classes, options)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_equalisation_and_what_distillation_reached_are_reported(model, digit_classes):
    made = compress(model, tuned("distill-equalize-int8"), digit_classes)
    assert [one.step for one in made.reports] == ["distill", "equalize", "ptq"]
    (output,) = made.reports[0].layers
    assert (output.name, output.kind) == ("probabilities", "output")
    assert 0 < output.error < np.log(10)  # no further than an even guess can be
    assert "block0_project_conv" in {one.name for one in made.reports[1].done}


def test_beyond_the_budget_no_artifact_is_written(model, digit_classes, tmp_path):
    options = CompressOptions(max_drop=-1.0, folder=tmp_path / "work")
    made = compress(model, tuned("fp16"), digit_classes, options)
    assert not made.passed
    assert not (tmp_path / "work" / "artifacts").exists()
    assert (tmp_path / "work" / "report.json").is_file()


@pytest.fixture
def zeros(monkeypatch):
    """Whatever quantizes, the artifact's last layer is zeros."""

    def broken(*given):
        made = quantize_parts(*given)
        return dataclasses.replace(made, flatbuffer=with_last_weights(made.flatbuffer, np.zeros_like))

    monkeypatch.setattr(attempts, "quantize_parts", broken)


@pytest.mark.slow
@pytest.mark.usefixtures("zeros")
@pytest.mark.parametrize("recipe", ["int8", "prune50-float32"])
def test_an_artifact_that_says_the_same_of_all_is_not_written(recipe, model, digit_classes, tmp_path, capsys):
    problem = "probabilities is the same for all of 4 images, and the model's is not"
    save(model, tmp_path / "tiny.keras")
    words = [str(tmp_path / "tiny.keras"), "--recipe", recipe, "--data", str(digit_classes)]
    out = tmp_path / "work"
    assert main([*words, "--epochs", "1", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert printed.endswith(f"failed: {problem}\nno artifact was written\n")
    assert list((out / "artifacts").iterdir()) == []
    (row,) = [row for row in results.read(out / "results.jsonl") if row["kind"] == "compression"]
    assert not row["passed"]
    assert row["problems"] == [problem]


@pytest.mark.slow
def test_a_recipe_that_ruins_the_model_needs_force(tmp_path, capsys, monkeypatch):
    """What the original model makes of val is compared with the artifact: 0.9 with 0.2, of 20 images."""
    model = build_spec(tiny_classifier())
    save(model, tmp_path / "tiny.keras")
    found = {KerasPredictor: 0.9, LiteRTModel: 0.2}

    def measure(predictor, data, **_):
        return dataclasses.replace(measured(predictor, data), metrics={"top1": found[type(predictor)]})

    for module in (accuracy, attempts):
        monkeypatch.setattr(module, "measure", measure)
    out, data = tmp_path / "work", digits_folder(tmp_path / "classes", classify=True, val=20)
    words = [str(tmp_path / "tiny.keras"), "--recipe", "dynamic", "--data", str(data), "--out", str(out)]
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith(
        "error: top1 0.9000 -> 0.2000 on val (20 images): the artifact"
    )
    assert "decided on" in said.out
    assert said.out.endswith("no artifact was written\n")
    assert not (out / "artifacts").exists()
    assert not results.read(out / "results.jsonl")[-1]["passed"]
    assert main([*words, "--force"]) == 0
    assert "warning: top1 0.9000 -> 0.2000 on val (20 images)" in capsys.readouterr().err
    assert (out / "artifacts" / "dynamic.tflite").is_file()


def test_weights_that_are_not_finite_are_refused_before_any_work(digit_classes, tmp_path):
    broken = build_spec(tiny_classifier())
    broken.get_layer("head_conv").kernel.assign(np.full(broken.get_layer("head_conv").kernel.shape, np.nan))
    with pytest.raises(EffkerasError, match=r"head_conv/kernel of .* is not finite"):
        compress(broken, tuned("prune50-int8"), digit_classes, CompressOptions(folder=tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_a_layer_that_cannot_be_quantized_is_refused_under_strict(digit_classes, tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, name="conv")(image)
    x = keras.layers.LeakyReLU(name="odd")(x)
    x = keras.layers.Dense(10, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x, name="odd")
    made = compress(model, "int8", digit_classes)
    assert "odd" in {note.name for note in made.quantized.left_in_float}
    with pytest.raises(EffkerasError, match=r"ptq: odd \(.*\) was skipped"):
        compress(model, "int8", digit_classes, CompressOptions(strict=True))


def own_classifier() -> keras.Model:
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="first")(x)
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, strides=2, name="second")(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="own")


@pytest.mark.slow
def test_a_classifier_of_ones_own_is_taken(digit_classes):
    model = own_classifier()
    made = compress(model, tuned("prune50-int8"), digit_classes)
    assert made.drop.metric == "top1"
    assert spec_of(made.model).name == "own"
    assert sparsity_of(made.model).kernel("second").share == pytest.approx(0.5, abs=0.01)
    assert sparsity_of(model).kernel("second").share == 0


def test_an_adopted_classifier_gives_what_it_gave():
    model = own_classifier()
    adopted = adopt(model, labels=tuple("0123456789"))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    wanted = keras.ops.softmax(model(pixels))
    np.testing.assert_allclose(adopted(pixels), wanted, rtol=1e-4, atol=1e-6)
    assert spec_of(adopted).labels == tuple("0123456789")


def test_only_classifiers_of_images_are_adopted():
    image = keras.Input((32, 32, 1))
    flat = keras.layers.Flatten()(image)
    with pytest.raises(EffkerasError, match="not an image classifier"):
        adopt(keras.Model(image, keras.layers.Dense(2)(flat)))


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param("channels30-qat-int8", marks=pytest.mark.slow),
        pytest.param("friendly-distill-int8", marks=pytest.mark.slow),
        pytest.param("cluster8-dynamic", marks=pytest.mark.slow),
        pytest.param("prune2of4-qat-int8", marks=pytest.mark.nightly("training")),
    ],
)
def test_every_step_joins_with_the_others(recipe, digit_classes, tmp_path):
    """On a network with a gate, a sum and swish."""
    spec = effkeras.spec("efficientnet-digits-b0")
    short = dataclasses.replace(spec.network, blocks=spec.network.blocks[:2], head=64)
    model = build_spec(spec.replace(network=short, weights={}))
    once = tuned(recipe, dataclasses.replace(QUICK, epochs=1))
    made = compress(model, once, digit_classes, CompressOptions(folder=tmp_path / "work"))
    assert (tmp_path / "work" / "artifacts" / f"{recipe}.tflite").is_file()
    assert made.figures["int8_macs"] == (1.0 if recipe.endswith("int8") else pytest.approx(0, abs=1))
    if "prune" in recipe:
        assert sparsity_of(made.model).share > 0.25


def our_own_instead(monkeypatch):
    """Puts our own pruning in the place of the tool's process."""
    from quantize.tfmot import backend

    def run(model, step, training, io):
        assert training.train.records
        return backend.Made(prune(model, dataclasses.replace(step.spec, scope="layer")))

    monkeypatch.setattr(backend, "run_tfmot", run)
    monkeypatch.setattr(backend, "check_tfmot", lambda model, step: None)


@pytest.mark.parametrize("tool", ["ours", pytest.param("tfmot", marks=pytest.mark.nightly("training"))])
def test_the_steps_can_be_tfmots(tool, model, digit_classes, tmp_path, monkeypatch, capsys):
    """In CI tests/quantize/tfmot shows the tool itself."""
    if tool == "ours":
        our_own_instead(monkeypatch)
    eager = dataclasses.replace(tuned("prune50-int8"), steps={"prune": PruneSpec(every=1)})  # of few steps
    options = CompressOptions(backend="tfmot", folder=tmp_path / "work")
    made = compress(model, eager, digit_classes, options)
    assert sparsity_of(made.model).kernel("head_conv").share == pytest.approx(0.5, abs=0.01)
    assert spec_of(made.model) == spec_of(model)
    assert compress(model, eager, digit_classes, options).drop == made.drop
    assert "done before" in capsys.readouterr().err


def test_what_tfmot_cannot_do_is_refused_before_any_work(model, digit_classes, tmp_path, monkeypatch):
    """The tool's own reasons are shown by tests/quantize/tfmot."""
    from quantize.tfmot import backend

    def refuse(checked, step):
        assert (spec_of(checked), step.name) == (spec_of(model), "qat")
        raise EffkerasError("tensorflow-model-optimization cannot quantize this model: Multiply")

    monkeypatch.setattr(backend, "check_tfmot", refuse)
    options = CompressOptions(backend="tfmot", folder=tmp_path / "work")
    with pytest.raises(EffkerasError, match=r"tensorflow-model-optimization cannot .*Multiply"):
        compress(model, tuned("qat-int8"), digit_classes, options)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_killed_command_goes_on(digit_classes, tmp_path):
    """Its process dies without warning in the middle of a step; the same command finishes the work."""
    save(build_spec(tiny_classifier()), tmp_path / "tiny.keras")
    words = [str(tmp_path / "tiny.keras"), "--recipe", "prune50-int8", "--data", str(digit_classes)]
    words += ["--epochs", "12", "--batch", "8", "--out"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "quantize", *words, str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = tmp_path / "killed" / "steps" / "1-prune" / "checkpoint.npz"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert main([*words, str(tmp_path / "killed")]) == 0
    assert _artifact(tmp_path / "killed") == _artifact(tmp_path / "whole")


def _artifact(folder: Path) -> bytes:
    return (folder / "artifacts" / "prune50-int8.tflite").read_bytes()
