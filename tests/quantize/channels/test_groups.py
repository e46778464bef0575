"""Which channels belong together, and which must stay: found on small graphs where one can see it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support.channel_masks import largest_error, random_stays, unheard

from effkeras.graph.keras_counting import count_layers
from effkeras.graph.rewrite import flat
from effkeras.layers import ChannelSlice, FastFusion
from quantize.channels.costs import MACS, costs_of
from quantize.channels.groups import Channels, find_channels, locked_by, without_channels


def image() -> keras.KerasTensor:
    return keras.Input((8, 8, 3))


def conv(x: keras.KerasTensor, filters: int, name: str, **options: object) -> keras.KerasTensor:
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)(x)


def end(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Dense(2, name="end")(layers.GlobalAveragePooling2D()(x))


def channels_of(x: keras.KerasTensor, y: keras.KerasTensor) -> Channels:
    return find_channels(keras.Model(x, y), {})


def units(channels: Channels, name: str) -> list[int]:
    made = channels.flow.layers[name].made
    assert made is not None
    return channels.unit[made].tolist()


def heard(channels: Channels, name: str) -> list[int]:
    mixed = channels.flow.layers[name].mixed
    assert mixed is not None
    return channels.unit[mixed.numbers].tolist()


@pytest.mark.parametrize(
    "combine", [layers.Add(), layers.Multiply(), layers.Maximum(), FastFusion(), lambda xs: xs[0] + xs[1]]
)
def test_maps_that_are_combined_go_together(combine):
    x = image()
    a, b = conv(x, 4, "a"), conv(x, 4, "b")
    channels = channels_of(x, end(combine([a, b])))
    assert units(channels, "a") == units(channels, "b") == heard(channels, "end")
    assert len(set(units(channels, "a"))) == 4
    assert len(channels.free) == 1


def test_a_gate_goes_with_what_it_scales():
    x = image()
    a = conv(x, 6, "a")
    squeezed = conv(layers.GlobalAveragePooling2D(keepdims=True)(a), 2, "reduce")
    gate = layers.Activation("sigmoid")(conv(squeezed, 6, "expand"))
    channels = channels_of(x, end(layers.Multiply()([a, gate])))
    assert units(channels, "a") == units(channels, "expand") == heard(channels, "reduce")
    assert set(units(channels, "a")).isdisjoint(units(channels, "reduce"))


def test_maps_side_by_side_are_told_apart():
    x = image()
    a, b = conv(x, 2, "a"), conv(x, 3, "b")
    channels = channels_of(x, end(layers.Concatenate()([b, a])))
    assert heard(channels, "end") == units(channels, "b") + units(channels, "a")
    assert len(channels.free) == 2


def test_a_depthwise_multiplier_repeats_channels():
    x = image()
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")(conv(x, 3, "a"))
    channels = channels_of(x, end(y))
    assert heard(channels, "end") == np.repeat(units(channels, "a"), 2).tolist()


def test_flattening_repeats_channels_at_every_place():
    x = image()
    y = layers.MaxPooling2D(4)(conv(x, 3, "a"))
    channels = channels_of(x, layers.Dense(2, name="end")(layers.Flatten()(y)))
    assert heard(channels, "end") == units(channels, "a") * 4


def test_a_layer_called_twice_ties_what_it_is_called_on():
    x = image()
    shared = layers.SeparableConv2D(5, 3, name="shared")
    norm = layers.BatchNormalization()
    a, b = shared(norm(conv(x, 4, "a"))), shared(conv(x, 4, "b"))
    channels = channels_of(x, [end(a), layers.Dense(2, name="other")(b)])
    assert units(channels, "a") == units(channels, "b")
    assert heard(channels, "end") == heard(channels, "other") == units(channels, "shared")


@keras.saving.register_keras_serializable(package="tests")
class Mystery(keras.layers.Layer):
    def call(self, x):
        return x[..., ::-1]


def stranger(x):
    return x - keras.ops.max(x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (Mystery(name="m"), "run through 'm', and the effect of Mystery on channels is unknown"),
        (layers.Softmax(name="s"), "'s' mixes all its channels"),
        (layers.LayerNormalization(name="n"), "'n' mixes all its channels"),
        (layers.Activation("softmax", name="a"), "the activation of 'a' may look at all"),
        (layers.Activation(stranger, name="own"), "the activation of 'own' may look at all"),
        (layers.Conv2D(4, 1, groups=2, name="g"), "'g' convolves its channels in groups"),
        (layers.Conv2D(4, 1, activation="softmax", name="c"), ""),
        (ChannelSlice(0, 2, name="cut"), "cut into parts"),
        (layers.Reshape((8, 32), name="r"), "'r' makes rows of 32 values"),
        (
            layers.Permute((3, 1, 2), name="p"),
            "run through 'p', and the effect of Permute on channels is unknown",
        ),
        (layers.Rescaling([1, 2, 3, 4], name="r"), "run through 'r'"),
        (layers.BatchNormalization(axis=1, name="b"), "run through 'b'"),
        (lambda x: x * np.arange(4, dtype=np.float32), "combines its channels with constants"),
        (lambda x: x * 2.0 + 1.0, ""),
    ],
)
def test_what_is_not_understood_locks_channels(operation, why):
    x = image()
    y = operation(conv(x, 4, "before"))
    channels = channels_of(x, layers.Dense(2, name="end")(layers.Flatten()(y)))
    made = channels.flow.layers["before"].made
    assert why in channels.why_locked(made)
    assert bool(channels.why_locked(made)) == bool(why)


def test_outputs_and_skipped_layers_are_locked():
    x = image()
    a = conv(x, 4, "a")
    model = keras.Model(x, conv(conv(a, 4, "b"), 4, "c"))
    channels = find_channels(model, locked_by(["a", "b", "c"], ["^b$"]))
    reasons = {layer.layer.name: channels.why_locked(made) for layer, made in channels.makers}
    assert reasons == {"a": "", "b": "skip = '^b$'", "c": "its channels are an output of the model"}


def test_a_gate_of_one_channel_stays():
    x = image()
    a, gate = conv(x, 4, "a"), conv(x, 1, "gate", activation="sigmoid")
    channels = channels_of(x, end(layers.Multiply()([a, gate])))
    assert "spreads it over all channels" in channels.why_locked(channels.flow.layers["gate"].made)
    assert not channels.why_locked(channels.flow.layers["a"].made)


def everything() -> keras.Model:
    """One of each kind of layer, a nested model and a shared layer among them."""
    inner_in = keras.Input((8, 8, 6))
    inner = keras.Model(inner_in, layers.BatchNormalization()(conv(inner_in, 6, "in")), name="inner")
    x = keras.Input((16, 16, 3))
    stem = layers.Activation("silu")(conv(x, 6, "stem", strides=2))
    y = layers.Add()([inner(stem), stem])
    shared = layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, name="shared")
    small = layers.MaxPooling2D()(y)
    maps = [shared(y), layers.UpSampling2D()(shared(small))]
    fused = FastFusion()(maps) * 2.0
    deep = layers.PReLU(shared_axes=[1, 2])(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y))
    wide = layers.Concatenate()([fused, layers.Cropping2D(1)(layers.ZeroPadding2D(1)(deep)), stem])
    up = layers.Conv2DTranspose(7, 3, strides=2, padding="same", name="up")(wide)
    gate = layers.Reshape((1, 1, 7))(layers.Dense(7, name="gate")(layers.GlobalAveragePooling2D()(up)))
    up = layers.Multiply()([up, layers.Activation("sigmoid")(gate)])
    flat_end = layers.Dense(3, name="flat")(layers.Flatten()(layers.AveragePooling2D(8)(up)))
    return keras.Model(x, {"map": conv(up, 2, "map"), "flat": flat_end})


@pytest.fixture(scope="module")
def rich():
    model = flat(everything())
    random = np.random.default_rng(0)
    for weight in model.weights:
        is_variance = weight.name == "moving_variance"
        weight.assign(
            random.uniform(0.5, 1.5, weight.shape) if is_variance else random.normal(0, 0.4, weight.shape)
        )
    return model, find_channels(model, {})


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_narrow_model_computes_what_the_wide_one_does_without_those_channels(rich, seed):
    model, channels = rich
    stays = random_stays(channels, seed)
    small = without_channels(model, channels, stays)
    assert largest_error(unheard(model, channels, stays), small) < 1e-4
    kept = np.array([stays[group.units].sum() for group in channels.groups])
    assert costs_of(channels, MACS).total(kept) == count_layers(small).macs


def test_costs_are_those_of_the_whole_model(rich):
    model, channels = rich
    costs, sizes = costs_of(channels, MACS), channels.sizes
    assert costs.total(sizes) == count_layers(model).macs
    step = 1e-4 * np.eye(len(sizes))
    differences = [(costs.total(sizes + one) - costs.total(sizes - one)) / 2e-4 for one in step]
    np.testing.assert_allclose(costs.slopes(sizes), differences, rtol=1e-4)
