"""The fused kernel computes what Keras's batch normalisation computes, and files hold Keras's layer."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import effkeras
from effkeras.layers.batch_norm import BatchNormalization, norms_of, use_fused_kernels

PIXELS = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
# The largest difference of outputs, gradients and statistics, of values of 5 to 300.
TOLERANCES = {"float32": 1e-4, "mixed_bfloat16": 1e-4, "mixed_float16": 2e-3}


def step(layer: keras.layers.Layer, inputs: np.ndarray, jit: bool) -> list[np.ndarray]:
    """Outputs, gradients of inputs and weights, and the statistics after one training step."""
    layer.build(inputs.shape)

    @tf.function(jit_compile=jit)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=True), tf.float32)
            loss = tf.reduce_sum(y * tf.sin(x))
        return y, tape.gradient(loss, [x, *(one.value for one in layer.trainable_weights)])

    y, gradients = run(tf.constant(inputs))
    return [
        y.numpy(),
        *(one.numpy() for one in gradients),
        *(one.numpy() for one in layer.non_trainable_weights),
    ]


@pytest.mark.parametrize("jit", [False, True], ids=["", "XLA"])
@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
def test_a_step_is_that_of_keras(policy, jit, options):
    layers = (
        kind(momentum=0.9, dtype=policy, **options)
        for kind in (keras.layers.BatchNormalization, BatchNormalization)
    )
    theirs, ours = (step(layer, PIXELS, jit) for layer in layers)
    assert BatchNormalization(dtype=policy)._is_fused(tf.constant(PIXELS))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCES[policy])


def test_one_value_per_channel_has_no_variance():
    theirs, ours = (
        step(kind(), PIXELS[:1, :1, :1], jit=False)
        for kind in (keras.layers.BatchNormalization, BatchNormalization)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_number_of_images_may_be_unknown_in_a_graph():
    known, unknown = BatchNormalization(momentum=0.9), BatchNormalization(momentum=0.9)
    unknown.build(PIXELS.shape)
    known(PIXELS, training=True)
    signature = [tf.TensorSpec((None, *PIXELS.shape[1:]))]
    tf.function(lambda x: unknown(x, training=True), input_signature=signature)(PIXELS)
    for one, other in zip(known.weights, unknown.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "shape"), [({"axis": 1}, (4, 5, 6, 7)), ({}, (4, 7)), ({"synchronized": True}, (4, 5, 6, 7))]
)
def test_the_rest_is_left_to_keras(options, shape):
    assert not BatchNormalization(**options)._is_fused(tf.zeros(shape))


def test_inference_and_frozen_layers_use_the_moving_statistics():
    layer = BatchNormalization()
    for training, trainable in ((False, True), (True, False)):
        layer.trainable = trainable
        np.testing.assert_allclose(layer(PIXELS, training=training), PIXELS / np.sqrt(1.001), rtol=1e-5)


def test_built_loaded_and_other_models_train_with_it(tmp_path):
    model = effkeras.build("mobilenet-v3-small", input_shape=(32, 32))
    assert all(type(one) is BatchNormalization for one in norms_of(model))
    model.save(tmp_path / "m.keras")
    assert all(type(one) is BatchNormalization for one in norms_of(effkeras.load(tmp_path / "m.keras")))
    other = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3))
    use_fused_kernels(other)
    assert all(type(one) is BatchNormalization for one in norms_of(other))
    assert all(isinstance(one, BatchNormalization) for one in norms_of(keras.models.clone_model(other)))


@pytest.mark.slow
def test_keras_alone_opens_the_file(tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, BatchNormalization(name="norm")(inputs))
    model.save(tmp_path / "m.keras")
    code = (
        f"import keras, sys; model = keras.models.load_model({str(tmp_path / 'm.keras')!r}); "
        "assert type(model.get_layer('norm')) is keras.layers.BatchNormalization; "
        "assert 'effkeras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
