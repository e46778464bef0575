"""Fusion is the weighted mean of the EfficientDet paper, negative weights counted as nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.layers import FastFusion

WEIGHTS = [(1.0, 1.0), (0.3, 2.0), (-0.5, 0.7), (1.0, 0.0, 2.5), (0.2, -3.0, -0.1), (-1.0, -1.0)]


def maps(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(count).normal(size=(count, 2, 3, 4, 5)).astype(np.float32))


def fused(inputs: list[np.ndarray], weights: tuple[float, ...]) -> np.ndarray:
    kept = np.maximum(weights, 0)
    return sum(x * weight for x, weight in zip(inputs, kept, strict=True)) / (kept.sum() + 1e-4)


def model_of(weights: tuple[float, ...]) -> keras.Model:
    inputs = [keras.Input((3, 4, 5)) for _ in weights]
    layer = FastFusion(name="fuse")
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.float32(weight) for weight in weights])
    return model


@pytest.mark.parametrize("weights", WEIGHTS)
def test_fusion_is_the_formula(weights):
    inputs = maps(len(weights))
    np.testing.assert_allclose(model_of(weights)(inputs), fused(inputs, weights), rtol=1e-5, atol=1e-6)


def test_fusion_starts_as_the_mean():
    layer = FastFusion()
    inputs = maps(3)
    np.testing.assert_allclose(layer(inputs), np.mean(inputs, axis=0), rtol=1e-3, atol=1e-4)
    assert [weight.name for weight in layer.weights] == ["w0", "w1", "w2"]
    assert {weight.shape for weight in layer.weights} == {()}


def test_weights_stay_float32_in_mixed_precision():
    layer = FastFusion(dtype="mixed_bfloat16")
    assert layer(maps(2)).dtype == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_its_config_round_trips():
    again = FastFusion.from_config(FastFusion(name="fuse").get_config())
    assert again.name == "fuse"


def test_it_is_saved_with_its_model(tmp_path):
    weights = (0.3, -1.0, 2.0)
    model_of(weights).save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.output_shape == (None, 3, 4, 5)
    np.testing.assert_allclose(again(maps(3)), fused(maps(3), weights), rtol=1e-5, atol=1e-6)
