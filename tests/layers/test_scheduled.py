"""Scheduled drop-path: nothing at inference, the schedule's share in training, no trace in files."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.layers import DropPath, FollowTraining
from effkeras.layers.drop import set_progress


@pytest.fixture
def model() -> keras.Model:
    x = keras.Input((4, 4, 3))
    return keras.Model(x, DropPath(0.6, seed=1, name="drop")(x))


def survivors(model: keras.Model) -> tuple[float, np.ndarray]:
    out = np.asarray(model(np.ones((4000, 4, 4, 3), "float32"), training=True))
    flat = out.reshape(len(out), -1)
    assert (flat == flat[:, :1]).all(), "a sample is dropped whole"
    kept = flat[:, 0] > 0
    return kept.mean(), flat[kept, 0]


@pytest.mark.parametrize(("progress", "survival"), [(0.0, 1.0), (0.5, 0.8), (1.0, 0.6), (7.0, 0.6)])
def test_the_share_follows_the_progress(model, progress, survival):
    set_progress(model, progress)
    share, values = survivors(model)
    assert share == pytest.approx(survival, abs=0.03)
    assert values == pytest.approx(np.full(len(values), 1 / survival), rel=1e-5)


def test_nothing_happens_at_inference(model):
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    assert (np.asarray(model(images, training=False)) == images).all()


def test_progress_is_no_weight_and_survives_saving(model, tmp_path):
    assert model.weights == []
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.get_layer("drop").keep == 0.6
    assert survivors(again)[0] == pytest.approx(0.6, abs=0.03)


def test_fit_tells_the_layers(model):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(self.model.get_layer("drop").progress))

    x = keras.Input((4, 4, 3))
    y = keras.layers.Dense(1)(model(x))
    trained = keras.Model(x, keras.layers.Flatten()(model.get_layer("drop")(y)))
    trained.compile("sgd", "mse")
    data = np.zeros((8, 4, 4, 3), "float32")
    trained.fit(data, np.zeros((8, 16)), batch_size=2, verbose=0, callbacks=[FollowTraining(8, 2), Watch()])
    assert seen == pytest.approx([0.25, 0.375, 0.5, 0.625])


def test_an_impossible_share_is_refused():
    with pytest.raises(ValueError, match="keep must lie above 0"):
        DropPath(0.0)
