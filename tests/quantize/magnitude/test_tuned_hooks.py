"""Pruning and clustering in a training on images: averaged, checkpointed, resumed."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.tiny import tiny_classifier

import effkeras
from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.inference.evaluate import Evaluation
from effkeras.training import session
from effkeras.training.callbacks import Hook
from effkeras.training.loop import TuneJob, spec_for_data, tune
from effkeras.training.settings import TrainSettings
from quantize import cluster, prune
from quantize.magnitude.clustering import ClusterHook, finish_clustering
from quantize.magnitude.pruning import PruneHook, finish_pruning
from quantize.magnitude.selection import Target
from quantize.magnitude.sparsity import sparsity_of
from quantize.specs import ClusterSpec, PruneSpec

pytestmark = pytest.mark.slow

SETTINGS = TrainSettings(epochs=2, batch=4, learning_rate=3e-3, warmup_epochs=0.5, validation_images=4)
PRUNING = PruneSpec(sparsity=0.7, every=2, end=0.8, scope="layer")
CLUSTERING = ClusterSpec(clusters=8)


class Killed(Hook):
    """Ends the process, as it were, in the second epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 7:  # an epoch has six steps
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def job(digit_classes):
    """A job from the model, the folder and the hooks."""
    train = open_data(digit_classes, "train")
    spec = spec_for_data(tiny_classifier(), train)
    model = build_spec(spec)

    def make(out, *hooks, model=model):
        return TuneJob(model, spec, train, open_data(digit_classes, "val"), SETTINGS, out, hooks)

    return make


def weights(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.weights]


def same(one: keras.Model, other: keras.Model) -> bool:
    return all(map(np.array_equal, weights(one), weights(other)))


def kernels(model: keras.Model, names: tuple[str, ...]) -> list[np.ndarray]:
    return [Target(name, "", "kernel").array(model) for name in names]


@pytest.fixture(scope="module")
def pruned(job, tmp_path_factory):
    return tune(job(tmp_path_factory.mktemp("runs") / "pruned", PruneHook(PRUNING)))


def test_the_averaged_model_is_as_sparse_as_asked_for(job, pruned, tmp_path):
    report = finish_pruning(job(tmp_path).model, pruned, PRUNING).report
    assert report.figures["sparsity"] == pytest.approx(0.7, abs=0.01)
    found = sparsity_of(pruned)
    assert all(found.kernel(layer.name).share == pytest.approx(0.7, abs=0.05) for layer in report.done)


def test_a_killed_training_ends_with_the_same_masks_and_weights(job, pruned, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tune(job(tmp_path / "run", PruneHook(PRUNING), Killed()))
    again = tune(job(tmp_path / "run", PruneHook(PRUNING)))
    assert same(again, pruned)
    assert same(effkeras.load(tmp_path / "run"), pruned)


def test_the_best_is_one_that_is_wholly_pruned(job, tmp_path, monkeypatch):
    """The first validation is better, but has not all zeros yet."""
    scores = iter([0.9, 0.5])
    monkeypatch.setattr(
        session, "evaluate_in_detail", lambda *_, **__: Evaluation({"top1": next(scores)}, {})
    )
    made = job(tmp_path, PruneHook(PRUNING))
    found = tune(dataclasses.replace(made, settings=dataclasses.replace(SETTINGS, early_stop=True)))
    report = finish_pruning(made.model, found, PRUNING).report
    assert report.figures["sparsity"] == pytest.approx(0.7, abs=0.01)


def test_clusters_survive_averaging_and_a_kill(job, tmp_path):
    start = cluster(prune(job(tmp_path).model, PRUNING).model, CLUSTERING).model
    whole = tune(job(tmp_path / "whole", ClusterHook(CLUSTERING), model=start))
    with pytest.raises(KeyboardInterrupt):
        tune(job(tmp_path / "run", ClusterHook(CLUSTERING), Killed(), model=start))
    again = tune(job(tmp_path / "run", ClusterHook(CLUSTERING), model=start))
    assert same(again, whole)
    report = finish_clustering(start, whole, CLUSTERING).report
    assert report.figures["clusters"] <= 8
    names = tuple(layer.name for layer in report.done)
    for before, after in zip(kernels(start, names), kernels(whole, names), strict=True):
        assert not np.array_equal(before, after)
        np.testing.assert_array_equal(before != 0, after != 0)
