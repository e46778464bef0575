from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from support import small_nets
from support.eager import outputs_of_model
from support.qat_models import kernels, numbers, prepared, small
from support.tiny import tiny_cells
from support.tiny_models import decibels, keras_outputs, random_images, randomize, tiny_model

import effkeras
from effkeras import EffkerasError
from effkeras.building.models import build_spec
from effkeras.layers.fake_quant import FakeQuant, fake_quants
from effkeras.layers.normalize import spec_of
from quantize import qat
from quantize.specs import QatSpec

LITE, SWISH = "efficientdet-lite0", "efficientdet-d0"
BOTH = (LITE, pytest.param(SWISH, marks=pytest.mark.slow))
L = keras.layers


@pytest.mark.parametrize("name", BOTH)
def test_starts_as_near_to_the_model_as_int8_is(name):
    wanted = keras_outputs(tiny_model(name), random_images(8))
    got = keras_outputs(prepared(name).model, random_images(8))
    assert list(wanted) == list(got)
    assert all(decibels(values, got[output]) > 22 for output, values in wanted.items())


@pytest.mark.parametrize("name", BOTH)
def test_everything_is_done_and_nothing_left_in_float(name):
    report = prepared(name).report
    assert report.skipped == ()
    assert all(0 < layer.error < 0.01 for layer in report.done)
    report.check_strict()


def test_the_model_still_knows_what_it_is_and_the_given_one_is_untouched():
    before = [weight.copy() for weight in tiny_model(LITE).get_weights()]
    assert spec_of(prepared(LITE).model) == spec_of(tiny_model(LITE))
    assert all(map(np.array_equal, before, tiny_model(LITE).get_weights()))


def test_heads_keep_one_kernel_with_a_scale_and_bias_per_level():
    head = kernels(prepared(LITE).model)["class0_conv"]
    assert len(head.branches) == 5
    assert head.scale.shape[0] == head.biases.shape[0] == 5
    assert not np.array_equal(head.scale[0], head.scale[1])
    trained = {weight.path for weight in prepared(LITE).model.trainable_weights}
    assert head.kernel.path in trained
    assert head.scale.path not in trained


def test_one_range_spans_all_levels_of_an_output():
    model = prepared(LITE).model
    ranges = {layer.name: layer for layer in model.layers if isinstance(layer, FakeQuant)}
    assert ranges["class_predict_range"].branches == 5
    assert ranges["class_predict_range"].mode == "all"  # the surest detections are not cut
    assert ranges["stem_act_range"].mode == "ema"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(LITE, marks=pytest.mark.slow),
        pytest.param(SWISH, marks=pytest.mark.nightly("zoo")),
    ],
)
def test_detectors_saved_loaded_and_cloned_it_is_the_same(name, tmp_path):
    check_kept(prepared(name).model, random_images(2), tmp_path)


def test_saved_loaded_and_cloned_it_is_the_same(tmp_path):
    check_kept(small().model, small_nets.examples()[0], tmp_path)


def check_kept(model: keras.Model, images: np.ndarray, folder: Path) -> None:
    """Checks that a model computes the same after saving, loading and cloning."""
    wanted = keras_outputs(model, images)
    model.save(folder / "m.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for other in (effkeras.load(folder / "m.keras"), clone):
        got = keras_outputs(other, images)
        assert all(np.array_equal(values, got[output]) for output, values in wanted.items())


@pytest.mark.parametrize("ranges", ["ema", "learned"])
def test_all_that_trains_gets_gradients(ranges):
    import tensorflow as tf

    model = small(QatSpec(ranges=ranges)).model
    with tf.GradientTape() as tape:
        outputs = model(small_nets.examples()[0], training=True)
        loss = sum(tf.reduce_mean(value**2) for value in outputs.values())
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    found = zip(model.trainable_weights, gradients, strict=True)
    assert [weight.path for weight, gradient in found if gradient is None] == []
    assert any("/low" in weight.path for weight in model.trainable_weights) == (ranges == "learned")


def test_training_lowers_the_loss_and_moves_the_ranges():
    images, labels = small_nets.examples()
    model = small(QatSpec(momentum=0.8), small_nets.plain()).model
    before = [one.limits() for one in fake_quants(model)]
    model.compile(keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy")
    losses = model.fit(images, labels, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert [one.limits() for one in fake_quants(model)] != before


def test_zeros_stay_zero_in_training():
    model = small_nets.plain()
    kernel = model.get_layer("hidden").kernel
    mask = np.random.default_rng(0).random(kernel.shape) < 0.5
    kernel.assign(kernel * mask)
    made = small(None, model).model
    made.compile("adam", loss="sparse_categorical_crossentropy")
    made.fit(*small_nets.examples(), verbose=0, epochs=2)
    layer = kernels(made)["hidden"]
    assert np.array_equal(numbers(layer.folded_kernel()) != 0, mask & (numbers(layer.folded_kernel()) != 0))
    assert np.array_equal(numbers(layer.kernel) != 0, mask)
    assert not np.array_equal(numbers(layer.kernel), numbers(kernel))


def test_clusters_stay_clusters_and_move():
    model = small_nets.plain()
    kernel = model.get_layer("hidden").kernel
    centroids = np.array([-0.3, -0.05, 0.0, 0.07, 0.25], np.float32)
    index = np.random.default_rng(0).integers(0, 5, kernel.shape)
    kernel.assign(centroids[index])
    made = small(QatSpec(keep_clusters=True), model).model
    made.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    made.fit(*small_nets.examples(), verbose=0, epochs=2)
    kept = numbers(kernels(made)["hidden"].kept_kernel())
    values = [np.unique(kept[index == which]) for which in range(5)]
    assert [len(one) for one in values] == [1] * 5
    assert values[2] == [0]
    assert not np.allclose(np.concatenate(values), centroids)
    assert len(np.unique(numbers(kernels(made)["hidden"].folded_kernel()))) <= 5


def test_a_skipped_kernel_stays_exact_and_is_named():
    made = small(QatSpec(skip=("expand", "stem")))
    left = {layer.name for layer in made.report.skipped}
    assert left == {"expand", "first"}
    layer = kernels(made.model)["expand"]
    np.testing.assert_array_equal(numbers(layer.folded_kernel()), numbers(layer.kernel))
    with pytest.raises(EffkerasError, match="left out by skip"):
        made.report.check_strict()


def test_layers_of_ones_own_are_left_and_named():
    @keras.saving.register_keras_serializable(package="tests")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return x * 2

    x = keras.Input((8, 8, 3))
    y = L.LayerNormalization(name="norm")(Doubled(name="own")(L.Conv2D(4, 3, name="conv")(x)))
    made = small(None, keras.Model(x, L.Conv2D(2, 1, name="last")(y)))
    assert [(one.name, one.kind) for one in made.report.skipped] == [
        ("own", "Doubled"),
        ("norm", "LayerNormalization"),
    ]


@pytest.mark.nightly("zoo")
@pytest.mark.parametrize("base", ["nasnet-mobile", "pnasnet-mobile"])
def test_cells(base):
    model = build_spec(tiny_cells(base, (64, 64), survival=0.7), activation=None)
    randomize(model)
    made = qat(model, random_images(8))
    assert made.report.skipped == ()
    wanted = outputs_of_model(model, random_images(8))
    assert decibels(wanted, outputs_of_model(made.model, random_images(8))) > 10


def test_weights_that_are_no_numbers_are_named():
    model = small_nets.plain()
    weight = model.get_layer("second").kernel
    weight.assign(weight * np.nan)
    with pytest.raises(EffkerasError, match="second"):
        small(None, model)


def test_activations_that_are_no_numbers_are_named():
    model = small_nets.plain()
    weight = model.get_layer("second").kernel
    weight.assign(weight * 0 + 3e38)
    with pytest.raises(EffkerasError, match=r"'second' .* not finite"):
        small(None, model)


def test_what_cannot_be_prepared_is_refused():
    with pytest.raises(EffkerasError, match="fake-quantized already"):
        qat(small().model, small_nets.examples()[0])
    with pytest.raises(EffkerasError, match="one and the same colour"):
        qat(small_nets.plain(), np.ones((4, 8, 8, 3)))
    with pytest.raises(EffkerasError, match="no images"):
        qat(small_nets.plain(), np.ones((0, 8, 8, 3)))
    with pytest.raises(EffkerasError, match="nothing_like_it"):
        small(QatSpec(skip=("nothing_like_it",)))
