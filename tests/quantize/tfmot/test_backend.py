"""tensorflow-model-optimization in a process of its own: what it makes, what it refuses, how it dies."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.tiny_models import random_images, tiny_model

import effkeras
from effkeras.building.models import build_spec
from effkeras.data.images import read_image
from effkeras.data.splits import open_data
from effkeras.graph.rewrite import Graph
from effkeras.litert.runner import LiteRTModel
from effkeras.support.errors import EffkerasError
from quantize import prune
from quantize.magnitude.sparsity import sparsity_of
from quantize.specs import ClusterSpec, PruneSpec, QatSpec, TuneSpec
from quantize.splits import StepTraining
from quantize.steps.cluster import Cluster
from quantize.steps.prune import Prune
from quantize.steps.qat import Qat
from quantize.tfmot import backend as tfmot_backend
from quantize.tfmot.backend import check_tfmot, run_tfmot
from quantize.tfmot.graph import described, weights_of, with_weights_from

TUNE = TuneSpec(epochs=2, batch=8, learning_rate=1e-3)
READY = 'print(\'{"event": "ready"}\', flush=True); input(); '


@functools.cache
def lite() -> keras.Model:
    """A classifier of digits with three blocks in two groups and no squeeze-and-excitation."""
    spec = effkeras.spec("efficientnet-digits")
    network = dataclasses.replace(spec.network, blocks=spec.network.blocks[:2], width=0.5)
    return build_spec(spec.replace(network=network, weights={}))


@pytest.fixture(scope="module")
def training(digit_classes, tmp_path_factory):
    return StepTraining(open_data(digit_classes, "train"), tmp_path_factory.mktemp("out"), tune=TUNE)


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Puts a program in the worker's place."""

    def replace(program: str) -> None:
        (tmp_path / "stand_in_worker.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(tfmot_backend, "WORKER", "stand_in_worker")

    return replace


def other_keras(models: Mapping[str, keras.Model], pixels: np.ndarray, root: Path) -> dict[str, np.ndarray]:
    """What Keras 2 computes with the described models, in one process."""
    for name, model in models.items():
        graph, folder = Graph.of(model), root / name
        folder.mkdir()
        (folder / "graph.json").write_text(json.dumps(described(graph)))
        np.savez(folder / "weights.npz", **weights_of(graph))
        np.save(folder / "pixels.npy", pixels)
    program = (
        "import json, sys, numpy as np; from pathlib import Path; from quantize.tfmot.worker import build\n"
        "for at in map(Path, sys.argv[1:]):\n"
        "    graph = json.loads((at / 'graph.json').read_text())\n"
        "    model = build(graph, np.load(at / 'weights.npz'))\n"
        "    np.save(at / 'outputs.npy', model.predict_on_batch(np.load(at / 'pixels.npy')))\n"
    )
    folders = [root / name for name in models]
    subprocess.run([sys.executable, "-c", program, *folders], check=True, env=tfmot_backend._environment())
    return {folder.name: np.load(folder / "outputs.npy") for folder in folders}


@pytest.mark.slow
def test_both_versions_of_keras_compute_the_same(tmp_path):
    models = {name: tiny_model(name) for name in ("efficientnet-lite0", "efficientnet-b0")}
    for name, outputs in other_keras(models, random_images(4), tmp_path).items():
        wanted = outputs_of_model(models[name], random_images(4))
        # Probabilities; how the kernels of two versions round depends on the processor (2.2e-5 with AVX-512).
        np.testing.assert_allclose(outputs, wanted, atol=1e-4)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("unstructured", marks=pytest.mark.slow),
        pytest.param("2:4", marks=pytest.mark.nightly("training")),
    ],
)
def test_pruning(training, pattern):
    model, spec = lite(), PruneSpec(sparsity=0.5, pattern=pattern, every=1)
    before = model.get_weights()
    made = run_tfmot(model, Prune("prune", spec), training).compressed
    assert all(map(np.array_equal, before, model.get_weights()))
    zeros = {one.layer: one.share for one in sparsity_of(made.model, pattern).kernels if one.zeros}
    assert set(zeros) == {one.name for one in made.report.done}
    assert all(share == pytest.approx(0.5, abs=0.05) for share in zeros.values())
    assert [one.path for one in made.model.weights] == [one.path for one in model.weights]
    assert not np.array_equal(before[0], made.model.get_weights()[0])  # the stem was trained, not pruned


@pytest.mark.slow
def test_clustering(training):
    made = run_tfmot(lite(), Cluster("cluster", ClusterSpec(clusters=8)), training).compressed
    counts = {one.name: len(np.unique(made.model.get_layer(one.name).kernel)) for one in made.report.done}
    assert set(counts.values()) <= set(range(2, 9))
    assert len(counts) > 3


@pytest.mark.parametrize(
    "sparsity",
    [
        pytest.param(0.5, marks=pytest.mark.slow),  # the tool keeps zeros by a scheme of its own
        pytest.param(0.0, marks=pytest.mark.nightly("training")),
    ],
)
def test_quantization_aware_training(training, sparsity):
    # Random weights say much the same of all images, and agree with anything by chance.
    trained = effkeras.build("efficientnet-digits", weights="digits")
    before = prune(trained, PruneSpec(sparsity=sparsity)).model if sparsity else trained
    made = run_tfmot(before, Qat("qat", QatSpec(skip=("logits",))), training)
    after = made.compressed.model
    artifact = LiteRTModel.of_bytes(made.flatbuffer)
    pixels = np.stack([read_image(one.path) for one in training.train.records]).astype(np.float32)
    wanted = outputs_of_model(after, pixels)
    (got,) = artifact(pixels).values()
    # A few steps leave the tool's ranges about where they start, at -6 to 6: close is all that can be asked.
    assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > 0.9
    assert "stem_conv" in {one.name for one in made.compressed.report.done}
    assert [one.name for one in made.compressed.report.skipped] == ["logits"]
    for old, new in zip(sparsity_of(before).kernels, sparsity_of(after).kernels, strict=True):
        assert new.share >= old.share
    assert sparsity_of(after).share >= 0.7 * sparsity


@pytest.mark.slow
def test_squeeze_and_excitation_is_refused_with_the_tools_reason():
    with pytest.raises(EffkerasError, match=r"cannot quantize this model: .*Multiply"):
        check_tfmot(tiny_model("efficientnet-b0"), Qat("qat", QatSpec()))


def test_detectors_are_refused_at_once():
    with pytest.raises(EffkerasError, match="trains classifiers only here"):
        check_tfmot(tiny_model("efficientdet-d0"), Prune("prune", PruneSpec()))


def test_layers_of_our_own_are_refused_at_once():
    image = keras.Input((8, 8, 3))
    x = effkeras.layers.ChannelSlice(0, 2, name="part")(image)
    x = keras.layers.Dense(3, name="end")(keras.layers.Flatten()(x))
    with pytest.raises(EffkerasError, match=r"knows no layer ChannelSlice \(part\)"):
        check_tfmot(keras.Model(image, x), Qat("qat", QatSpec()))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Prune("prune", PruneSpec(scope="global")), "layer by layer"),
        (Prune("prune", PruneSpec(depthwise=True)), "depthwise"),
        (Cluster("cluster", ClusterSpec(depthwise=True)), "depthwise"),
        (Qat("qat", QatSpec(ranges="learned")), "cannot learn ranges"),
        (Qat("qat", QatSpec(keep_clusters=True)), "no clustered weights"),
    ],
)
def test_settings_that_the_tool_lacks(step, message):
    with pytest.raises(EffkerasError, match=message):
        check_tfmot(lite(), step)


def test_images_with_boxes_are_refused(digits, training):
    boxes = dataclasses.replace(training, train=open_data(digits, "train"))
    with pytest.raises(EffkerasError, match="needs a folder per class"):
        run_tfmot(lite(), Prune("prune", PruneSpec()), boxes)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('out of memory')", "ended with code 1: out of memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ('print(\'{"event": "refused", "why": "no such layer"}\')', "cannot prune this model: no such layer"),
        ("print('TensorFlow says hello')", "ended with code 0: it said nothing"),
    ],
)
def test_a_worker_that_never_gets_ready(worker, program, message):
    worker(program)
    with pytest.raises(EffkerasError, match=message):
        check_tfmot(lite(), Prune("prune", PruneSpec()))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (READY + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        (READY + "1 / 0", "ended with code 1: ZeroDivisionError"),
        (READY + 'print(\'{"event": "step", "at": 1, "loss": 2.0}\')', "ended with code 0"),
    ],
)
def test_a_worker_that_dies_at_work(worker, training, program, message):
    worker(program)
    model = lite()
    before = model.get_weights()
    with pytest.raises(EffkerasError, match=message):
        run_tfmot(model, Prune("prune", PruneSpec()), training)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_the_worker_starts_anywhere_and_ends_with_its_parent(tmp_path):
    program = (
        "import time; from quantize.tfmot.worker import _end_with_parent\n"
        "_end_with_parent(); print('up', flush=True); time.sleep(99)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=tfmot_backend._environment(),
    )
    assert process.stdout.readline() == b"up\n"
    process.stdin.close()
    assert process.wait(60) == 1
    process.stdout.close()


@pytest.mark.parametrize("what", ["missing", "shape", "nan"])
def test_weights_that_come_back_wrong_change_nothing(what):
    model = keras.models.clone_model(lite())
    found = {name: value + 1 for name, value in weights_of(Graph.of(model)).items()}
    if what == "missing":
        del found["logits/1"]
    else:
        found["logits/1"] = np.zeros(3) if what == "shape" else np.full(10, np.nan)
    before = model.get_weights()
    with pytest.raises(EffkerasError, match="logits"):
        with_weights_from(model, found)
    assert all(map(np.array_equal, before, model.get_weights()))
