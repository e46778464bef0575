"""DropBlock is the formula of its authors, on a schedule, and nothing at inference."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.layers import DropBlock, FollowTraining
from effkeras.layers.drop import set_progress

SHAPES = [(9, 9), (7, 7), (5, 5), (1, 1), (6, 10), (3, 12)]


def by_loops(noise: np.ndarray, keep: float, size: int) -> np.ndarray:
    """The mask, square by square: a centre that the noise chooses blacks out the square around it."""
    height, width = noise.shape[1:3]
    rows, columns = min(size, height), min(size, width)
    gamma = (1 - keep) * height * width / (rows * columns)
    gamma /= (height - rows + 1) * (width - columns + 1)
    mask = np.ones_like(noise)
    for top in range(height - rows + 1):
        for left in range(width - columns + 1):
            chosen = noise[:, top + rows // 2, left + columns // 2, :] < gamma
            square = mask[:, top : top + rows, left : left + columns, :]
            square *= ~chosen[:, None, None, :]
    return mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_it_is_the_formula(shape, size, monkeypatch):
    noise = np.random.default_rng(0).random((3, *shape, 4)).astype("float32")
    monkeypatch.setattr(keras.random, "uniform", lambda *args, **kwargs: noise)
    x = np.random.default_rng(1).normal(size=noise.shape).astype("float32")
    mask = by_loops(noise, 0.7, size)
    assert 0 < mask.mean() < 1
    got = DropBlock(0.7, size)(x, training=True)
    np.testing.assert_allclose(got, x * mask / mask.mean(), rtol=1e-5)


def shares(layer: DropBlock, shape: tuple[int, int], progress: float = 1.0) -> np.ndarray:
    layer.build((None, *shape, 32))
    layer.set_progress(progress)
    return np.asarray(layer(np.ones((128, *shape, 32), "float32"), training=True))


@pytest.mark.parametrize("shape", [(12, 12), (10, 20)])
def test_about_the_wanted_share_is_kept(shape):
    """A little more than asked for, since squares overlap, and the more so the fewer stay."""
    for keep in (0.95, 0.8):
        kept = (shares(DropBlock(keep, 3, seed=1), shape) > 0).mean()
        assert keep <= kept + 0.005
        assert kept - keep < (1 - keep) ** 2


def test_what_is_left_keeps_the_mean():
    for progress in (0.3, 1.0):
        out = shares(DropBlock(0.8, 5, seed=1), (9, 9), progress)
        assert out.mean() == pytest.approx(1, rel=1e-4)


def test_channels_and_samples_are_dropped_for_themselves():
    out = shares(DropBlock(0.7, 3, seed=1), (9, 9)) > 0
    assert not (out == out[:1]).all()
    assert not (out == out[..., :1]).all()


@pytest.mark.parametrize(("progress", "dropped"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.2)])
def test_the_share_follows_the_progress(progress, dropped):
    kept = (shares(DropBlock(0.8, 1, seed=1), (8, 8), progress) > 0).mean()  # 1 x 1: nothing overlaps
    assert 1 - kept == pytest.approx(dropped, abs=0.005)


def test_a_map_may_be_dropped_whole():
    out = DropBlock(1e-9, 7, seed=0)(np.ones((2, 4, 4, 3), "float32"), training=True)
    assert np.isfinite(out).all()
    assert np.asarray(out).max() == 0


@pytest.fixture
def model() -> keras.Model:
    x = keras.Input((6, 8, 3))
    return keras.Model(x, DropBlock(0.6, 3, seed=1, name="drop")(x))


def test_nothing_happens_at_inference(model):
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype("float32")
    assert (np.asarray(model(images, training=False)) == images).all()
    assert (np.asarray(DropBlock(1.0)(images, training=True)) == images).all()


def test_no_weights_and_the_same_after_saving(model, tmp_path):
    assert model.weights == []
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras").get_layer("drop")
    assert (again.keep, again.size, again.seed) == (0.6, 3, 1)


def test_fit_tells_the_layer_in_any_precision():
    x = keras.Input((6, 6, 3))
    y = keras.layers.Conv2D(2, 3, padding="same", dtype="mixed_bfloat16")(x)
    drop = DropBlock(0.6, 3, name="drop", dtype="mixed_bfloat16")
    y = keras.layers.GlobalAveragePooling2D(dtype="float32")(drop(y))
    model = keras.Model(x, y)
    set_progress(model, 0)
    model.compile("sgd", "mse")
    data = np.ones((8, 6, 6, 3), "float32")
    history = model.fit(data, np.zeros((8, 2)), batch_size=2, verbose=0, callbacks=[FollowTraining(8, 2)])
    assert float(drop.progress) == pytest.approx(5 / 8)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("bad", [{"keep": 0.0}, {"keep": 1.1}, {"keep": 0.5, "size": 0}])
def test_impossible_values_are_refused(bad):
    with pytest.raises(ValueError, match=r"(keep|size) must"):
        DropBlock(**bad)
