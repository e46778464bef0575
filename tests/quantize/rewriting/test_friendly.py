"""Swish and squeeze-and-excitation replaced: what is left, that it is close, and that definitions say it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import pytest
from support.tiny_models import SIDE, random_images, randomize, tiny_model, tiny_spec

import effkeras
from effkeras.building.models import build_spec
from effkeras.data.images import read_image
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.functional import calls_of
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from quantize.rewriting.friendly import activation_of, friendly
from quantize.specs import FriendlySpec

MODELS = Path(__file__).parents[3] / "models"
RELU6 = FriendlySpec()
HARD = FriendlySpec("hard_swish", "hard")
BARE = FriendlySpec("relu6", "remove")


def activations(model: keras.Model) -> set[str]:
    names = {activation_of(call.operation) for call in calls_of(model)}
    return {"hard_swish" if name == "hard_silu" else name for name in names}


def outputs(model: keras.Model, count: int = 4) -> list[np.ndarray]:
    return [np.asarray(one) for one in keras.tree.flatten(model(random_images(count), training=False))]


def assert_same(one: keras.Model, other: keras.Model, tolerance: float = 1e-4) -> None:
    for before, after in zip(outputs(one), outputs(other), strict=True):
        np.testing.assert_allclose(after, before, atol=tolerance * max(1.0, float(before.std())))


def small(name: str, **network: object) -> ModelSpec:
    """A classifier of a few blocks."""
    spec = effkeras.spec(name)
    network = {"blocks": spec.network.blocks[:5], "width": 0.35, "depth": 0.3, **network}
    return spec.replace(
        network=dataclasses.replace(spec.network, **network),
        input=dataclasses.replace(spec.input, size=(SIDE, SIDE)),
        classes=3,
        labels=(),
    )


@functools.cache
def mixed() -> keras.Model:
    """Kernels of several sizes, groups, and activations block by block."""
    model = build_spec(small("mixnet-s"))
    randomize(model)
    return model


def users_own(gate: str = "sigmoid", *, by_hand: bool = False) -> keras.Model:
    """A network with every way to write swish and squeeze-and-excitation that users have."""
    x = image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="swish", name="stem")(x)
    x = keras.ops.silu(keras.layers.DepthwiseConv2D(3, name="filter")(x))
    mean = keras.ops.mean(x, axis=(1, 2)) if by_hand else keras.layers.GlobalAveragePooling2D()(x)
    factor = keras.layers.Dense(4, activation="swish", name="squeeze")(mean)
    factor = keras.layers.Dense(8, activation=gate, name="excite")(factor)
    factor = keras.layers.Reshape((1, 1, 8))(factor)
    x = x * factor if by_hand else keras.layers.Multiply(name="scaled")([factor, x])
    x = keras.layers.Dropout(0.1)(x)
    x = keras.layers.Conv2D(6, 3, groups=2, name="next")(x)
    x = keras.layers.Multiply(name="hand")([x, keras.layers.Activation("sigmoid")(x)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="sigmoid", name="end")(x))
    randomize(model)
    return model


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("efficientnet-b0", RELU6),
        ("efficientnet-b0", HARD),
        pytest.param("efficientnet-b0", BARE, marks=pytest.mark.slow),
        pytest.param("efficientdet-d0", RELU6, marks=pytest.mark.nightly("zoo")),
        pytest.param("efficientdet-d0", HARD, marks=pytest.mark.nightly("zoo")),
        pytest.param("efficientdet-d0", BARE, marks=pytest.mark.slow),
    ],
)
def test_the_definition_says_what_the_model_now_is(name, how):
    model = tiny_model(name)
    made = friendly(model, how).model
    rebuilt = build_spec(spec_of(made))
    assert [weight.path for weight in rebuilt.weights] == [weight.path for weight in made.weights]
    rebuilt.set_weights(made.get_weights())
    assert_same(made, rebuilt, 1e-6)
    assert "silu" not in activations(made)
    assert how.activation in activations(made)


@pytest.mark.parametrize("how", [RELU6, pytest.param(HARD, marks=pytest.mark.slow), BARE], ids=str)
def test_networks_with_activations_block_by_block(how):
    made = friendly(mixed(), how)
    rebuilt = build_spec(spec_of(made.model))
    rebuilt.set_weights(made.model.get_weights())
    assert_same(made.model, rebuilt, 1e-6)
    assert "silu" not in activations(made.model)
    assert not made.report.skipped


def test_widths_of_layers_that_are_gone_leave_the_definition():
    spec = tiny_spec("efficientnet-b0")
    spec = spec.replace(channels={"block1_se_reduce": 5, "block1_expand_conv": 24})
    made = friendly(build_spec(spec), BARE).model
    assert spec_of(made).channels == {"block1_expand_conv": 24}


def test_the_original_stays_as_it_is():
    model = tiny_model("efficientnet-b0")
    before, kinds = model.get_weights(), activations(model)
    friendly(model, BARE, images=random_images(4))
    assert all(map(np.array_equal, before, model.get_weights()))
    assert activations(model) == kinds


@pytest.mark.parametrize("by_hand", [False, True])
def test_users_own_ways_to_write_it(by_hand):
    model = users_own(by_hand=by_hand)
    made = friendly(model, BARE, images=random_images(4))
    assert {layer.name for layer in made.model.layers}.isdisjoint({"squeeze", "excite", "scaled"})
    assert activations(made.model) & {"silu", "sigmoid"} == {"sigmoid"}  # the output's own
    assert [one.name for one in made.report.done if "removed" in one.why] != []
    assert len(made.report.done) == 4


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_constant_gate_moves_into_the_next_convolution_exactly(by_hand):
    model = users_own(by_hand=by_hand)
    excite = model.get_layer("excite")
    excite.kernel.assign(np.zeros_like(excite.kernel))
    excite.bias.assign(np.linspace(-3, 3, 8))
    made = friendly(model, FriendlySpec("keep", "remove"), images=random_images(2))
    assert_same(model, made.model, 1e-5)
    without = friendly(model, FriendlySpec("keep", "remove"))
    assert_same(model, without.model, 1e-5)
    assert made.report.done[0].error < 1e-5


def test_slices_and_groups_take_their_share_of_a_constant_gate():
    model = keras.models.clone_model(mixed())
    model.set_weights(mixed().get_weights())
    for layer in model.layers:
        if layer.name.endswith("_se_expand"):
            layer.kernel.assign(np.zeros_like(layer.kernel))
    made = friendly(model, FriendlySpec("keep", "remove"), images=random_images(2)).model
    assert_same(model, made)


def test_a_gate_that_no_convolution_can_hold_becomes_one():
    x = image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, strides=4)(x)
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    factor = keras.layers.Conv2D(4, 1, activation="sigmoid", kernel_initializer="zeros")(mean)
    model = keras.Model(image, keras.layers.Multiply(name="scaled")([x, factor]))
    made = friendly(model, BARE, images=random_images(2))
    assert isinstance(made.model.get_layer("scaled"), keras.layers.DepthwiseConv2D)
    assert_same(model, made.model, 1e-6)


@pytest.mark.slow
def test_measured_gates_stay_closer_than_a_guess(digit_classes):
    model = effkeras.load(MODELS / "efficientnet" / "digits-b0.keras")
    pixels = np.stack([read_image(path) for path in sorted(digit_classes.glob("train/*/*"))]).astype(
        "float32"
    )
    keep = FriendlySpec("keep", "remove")
    made = (friendly(model, keep, images=pixels).model, friendly(model, keep).model)
    logits = [
        np.asarray(keras.Model(one.input, one.get_layer("logits").output)(pixels)) for one in (model, *made)
    ]
    measured, guessed = (float(np.std(one - logits[0])) for one in logits[1:])
    assert measured < guessed


def test_hard_gates_leave_other_sigmoids_alone():
    made = friendly(users_own(), FriendlySpec("keep", "hard"))
    assert [one.name for one in made.report.done] == ["excite"]
    assert activation_of(made.model.get_layer("end")) == "sigmoid"
    assert activation_of(made.model.get_layer("excite")) == "hard_sigmoid"


def test_a_sigmoid_that_gates_share_with_the_output_stays_there():
    sigmoid = keras.layers.Activation("sigmoid", name="chance")
    x = image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, strides=4)(x)
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Multiply(name="scaled")([x, sigmoid(keras.layers.Conv2D(4, 1)(mean))])
    x = sigmoid(keras.layers.GlobalAveragePooling2D()(x))
    made = friendly(keras.Model(image, x), FriendlySpec("keep", "hard")).model
    assert activation_of(made.layers[-1]) == "sigmoid"
    assert "hard_sigmoid" in activations(made)


def test_a_swish_that_is_called_twice_is_replaced_twice():
    swish = keras.layers.Activation("swish", name="shared")
    image = keras.Input((SIDE, SIDE, 3))
    x = swish(keras.layers.Conv2D(4, 3)(swish(image)))
    made = friendly(keras.Model(image, x), RELU6)
    assert [one.name for one in made.report.done] == ["shared", "shared"]
    assert activations(made.model) == {"relu6", "linear", ""}


class _Closed(keras.layers.Layer):
    """A layer with a swish that its config does not tell."""

    activation = staticmethod(keras.activations.silu)

    def call(self, x):
        return self.activation(x)


def test_a_swish_that_cannot_be_changed_is_named():
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Lambda(keras.ops.silu, name="open")(_Closed(name="closed")(image))
    report = friendly(keras.Model(image, x), RELU6).report
    assert [one.name for one in report.done] == ["open"]
    with pytest.raises(EffkerasError, match=r"friendly: closed \(_Closed\) was skipped"):
        report.check_strict()


@pytest.mark.parametrize("spec", [FriendlySpec("relu7"), FriendlySpec(squeeze="removed")])
def test_a_typo(spec):
    with pytest.raises(EffkerasError, match=r"there is no .*did you mean"):
        friendly(users_own(), spec)


def test_nothing_to_do_is_an_empty_report():
    made = friendly(tiny_model("efficientnet-lite0"), HARD)
    assert made.report.layers == ()
    assert_same(tiny_model("efficientnet-lite0"), made.model, 1e-6)


def test_a_definition_that_cannot_say_it_is_reported():
    """A fused block without expansion has no convolution after its squeeze-and-excitation."""
    block = "r2_k3_s2_e1_i16_o16_se0.25_c1"
    model = build_spec(small("efficientnetv2-b0", blocks=(block,), width=1.0, depth=1.0))
    made = friendly(model, BARE)
    assert [one.kind for one in made.report.skipped] == ["Normalize"]
    with pytest.raises(EffkerasError, match="its definition cannot describe the new network"):
        made.report.check_strict()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, SIDE, SIDE, 3), np.float32), "no images"),
        (np.full((2, SIDE, SIDE, 3), 7, np.float32), "all one colour"),
        (np.full((2, SIDE, SIDE, 3), np.nan, np.float32), "not finite"),
        (np.zeros((2, SIDE, SIDE), np.float32), "takes images"),
        (np.zeros((2, 32, 32, 3), np.float32), "takes images"),
    ],
)
def test_bad_images(bad, message):
    with pytest.raises(EffkerasError, match=message):
        friendly(users_own(), BARE, images=bad)


def test_weights_that_are_not_finite():
    model = users_own()
    model.get_layer("stem").bias.assign(np.full(8, np.nan))
    with pytest.raises(EffkerasError, match="not finite"):
        friendly(model, RELU6)


@pytest.mark.nightly("zoo")
@pytest.mark.parametrize("name", ["EfficientNetB0", "EfficientNetV2B0", "MobileNetV3Small"])
def test_networks_of_keras_applications(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    made = friendly(model, BARE, images=random_images(2))
    gates = [layer for layer in model.layers if layer.name.endswith(("se_reduce", "squeeze_excite_conv"))]
    assert len([one for one in made.report.done if "removed" in one.why]) == len(gates) > 8
    left = {layer.name for layer in made.model.layers}
    assert left.isdisjoint(layer.name for layer in gates)
    assert "silu" not in activations(made.model)
