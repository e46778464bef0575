"""Channel pruning of whole networks: what comes out is smaller, right, and builds from its definition."""

from __future__ import annotations

import dataclasses
import functools

import keras
import numpy as np
import pytest
from keras import layers
from support.channel_masks import largest_error, outputs, random_stays, unheard
from support.tiny import tiny_cells
from support.tiny_models import randomize, tiny_spec

import effkeras
from effkeras.building.backbones import TappedModel
from effkeras.building.external import own_part
from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_heads
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count, layer_channels
from effkeras.graph.keras_counting import count_layers
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import load, save
from quantize.channels.groups import find_channels, without_channels
from quantize.channels.importance import by_norm, by_scale, by_taylor
from quantize.channels.pruning import prune_channels, round_of
from quantize.channels.search import CLOSE, bisect
from quantize.specs import ChannelSpec

HALF = ChannelSpec(divisor=2, smallest=2)
QUICK = ("efficientnet-lite0", "mobilenet-v3-small", pytest.param("efficientdet-d0", marks=pytest.mark.slow))
LONG = (
    *(
        "efficientnet-b0",
        "efficientnetv2-b0",
        "mixnet-s",
        "squeezenet-1.1",
        "nasnet-mobile",
        "pnasnet-mobile",
    ),
    *("efficientdet-lite0", "segmenting"),
)
OURS = (*QUICK, *(pytest.param(name, marks=pytest.mark.nightly("zoo")) for name in LONG))


def spec_for(name: str) -> ModelSpec:
    if name == "segmenting":
        return with_heads(tiny_spec("efficientdet-d0"), ("detect", "segment"))
    if name in ("nasnet-mobile", "pnasnet-mobile"):
        return tiny_cells(name, size=(64, 64))
    spec = effkeras.spec(name)
    if spec.is_detector:
        return tiny_spec(name)
    scale = {"width": 0.35, "depth": 0.3} if hasattr(spec.network, "width") else {}
    size = dataclasses.replace(spec.input, size=(64, 64))
    return spec.replace(network=dataclasses.replace(spec.network, **scale), input=size, classes=3, labels=())


@functools.cache
def model_for(name: str) -> keras.Model:
    spec = spec_for(name)
    model = build_spec(spec, activation=None)
    # "logits" of one kernel per class is what `randomize` balances; fire modules end in a convolution.
    randomize(model) if name != "squeezenet-1.1" else None
    return model


def foreign(name: str) -> keras.Model:
    function = getattr(keras.applications, name)
    model = function(weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None)
    randomize(model)
    return model


def check_masks(model: keras.Model) -> None:
    channels = find_channels(model, {})
    stays = random_stays(channels, seed=1)
    small = without_channels(model, channels, stays)
    assert small.count_params() < model.count_params()
    assert largest_error(unheard(model, channels, stays), small) < 1e-4


@pytest.mark.parametrize("name", OURS)
def test_a_narrow_network_computes_what_the_wide_one_does_without_those_channels(name):
    check_masks(model_for(name))


@pytest.mark.parametrize("name", OURS)
def test_the_result_is_what_its_definition_builds(name, tmp_path):
    keep = 0.8 if name == "mixnet-s" else 0.5
    model = model_for(name)
    before = model.get_weights()
    pruned = prune_channels(model, dataclasses.replace(HALF, keep=keep))
    spec, figures = spec_of(pruned.model), pruned.report.figures
    assert 0.9 * keep < figures["macs_after"] / figures["macs_before"] <= keep
    assert (count(spec).macs, count(spec).total) == (figures["macs_after"], figures["parameters_after"])
    path = tmp_path / "narrow.toml"
    path.write_text(spec.to_toml())
    built = build_spec(effkeras.spec(path), activation=None)
    assert [layer.name for layer in built.layers] == [layer.name for layer in pruned.model.layers]
    built.set_weights(pruned.model.get_weights())
    assert largest_error(pruned.model, built) == 0
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("MobileNetV2", marks=pytest.mark.slow),
        pytest.param("ResNet50", marks=pytest.mark.nightly("zoo")),
    ],
)
def test_a_model_without_definition_is_pruned_alike(name):
    model = foreign(name)
    check_masks(model)
    pruned = prune_channels(model, ChannelSpec())
    figures = pruned.report.figures
    assert figures["macs_after"] == count_layers(pruned.model).macs
    assert 0.47 < figures["macs_after"] / figures["macs_before"] <= 0.5
    assert [one.name for one in pruned.report.skipped] == ["predictions"]


def test_dead_channels_go_first_and_nothing_changes():
    model = build_spec(spec_for("efficientdet-d0"))
    randomize(model)
    channels = find_channels(model, {})
    dead = {layer.layer.name for layer, made in channels.makers if not channels.why_locked(made)}
    for layer in model.layers:
        if layer.weights and not layer.name.endswith("_predict"):
            kill_second_half(layer, dead)
    stays = by_scale(channels) > 0
    for group in channels.groups:
        stays[group.units] |= bool(group.why)
    small = without_channels(model, channels, stays)
    assert largest_error(model, small) < 1e-4
    assert 0.2 < count_layers(small).macs / count_layers(model).macs < 0.4


def kill_second_half(layer: keras.Layer, dead: set[str]) -> None:
    """Output channels of convolutions, scales and shifts of batch norm."""
    values = layer.get_weights()
    for index, weight in enumerate(layer.weights):
        names = {"gamma", "beta", "moving_mean"} if "gamma" in {w.name for w in layer.weights} else {"bias"}
        makes = layer.name in dead and weight.name in ("kernel", "pointwise_kernel", "bias")
        if weight.name in names or makes:
            values[index][..., values[index].shape[-1] // 2 :] = 0
    layer.set_weights(values)


def test_the_report_tells_widths_and_what_was_lost():
    pruned = prune_channels(model_for("efficientnet-b0"), HALF)
    layers_by_name = {one.name: one for one in pruned.report.layers}
    spec = spec_of(pruned.model)
    wide, narrow = layer_channels(spec_for("efficientnet-b0")), layer_channels(spec)
    assert spec.channels
    for name, one in layers_by_name.items():
        if one.what == "done":
            assert one.why == f"{wide[name]} -> {narrow[name]} channels"
            assert (one.error > 0) == (wide[name] > narrow[name])
    assert layers_by_name["logits"].why == "its channels are an output of the model"
    assert set(spec.channels) == {name for name in layers_by_name if wide[name] > narrow[name]}


def test_widths_are_multiples_and_not_too_small():
    spec = ChannelSpec(keep=0.6, divisor=4, smallest=8, skip=("stem", "^head_conv$"))
    pruned = prune_channels(model_for("efficientnet-lite0"), spec)
    widths = spec_of(pruned.model).channels
    assert widths
    assert all(width % 4 == 0 and width >= 8 for width in widths.values())
    assert not {"stem_conv", "head_conv"} & set(widths)
    reasons = {one.name: one.why for one in pruned.report.skipped}
    assert (reasons["stem_conv"], reasons["head_conv"]) == ("skip = 'stem'", "skip = '^head_conv$'")


def test_rounds_multiply_to_the_whole():
    model, spec = model_for("efficientdet-lite0"), dataclasses.replace(HALF, rounds=2)
    once = round_of(spec)
    assert (once.keep, once.rounds) == (pytest.approx(0.5**0.5), 1)
    first = prune_channels(model, once)
    second = prune_channels(first.model, once)
    assert 0.44 < second.report.figures["macs_after"] / first.report.figures["macs_before"] <= 0.5
    assert spec_of(second.model).channels.keys() >= spec_of(first.model).channels.keys()
    assert count(spec_of(second.model)).macs == second.report.figures["macs_after"]


def test_a_saved_result_is_the_same(tmp_path):
    pruned = prune_channels(model_for("efficientdet-d0"), HALF).model
    save(pruned, tmp_path / "narrow.keras")
    assert largest_error(pruned, load(tmp_path / "narrow.keras")) == 0


def test_nested_models_become_flat_and_sequential_ones_are_fine():
    conv = layers.Conv2D(8, 3, activation="relu", name="conv")
    inner = keras.Sequential([keras.Input((16, 16, 8)), conv], name="inner")
    x = keras.Input((16, 16, 3))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(inner(layers.Conv2D(8, 1)(x)))))
    pruned = prune_channels(model, ChannelSpec(keep=0.6, divisor=1, smallest=1))
    assert "8 -> " in {one.name: one.why for one in pruned.report.done}["inner_conv"]
    stack = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(2)])
    assert prune_channels(stack, ChannelSpec(divisor=1, smallest=1)).model.output_shape == (None, 2)


def test_policies_stay():
    model = build_spec(spec_for("efficientnet-lite0"), dtype="mixed_bfloat16")
    pruned = prune_channels(model, HALF).model
    for name in ("stem_conv", "normalize", "probabilities"):
        assert pruned.get_layer(name).dtype_policy.name == model.get_layer(name).dtype_policy.name


def test_a_detector_on_a_model_of_ones_own_can_be_built_again():
    x = keras.Input((64, 64, 3))
    taps, y = [], x
    for level in range(1, 6):
        y = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name=f"level{level}")(y)
        taps.append(y)
    base = spec_for("efficientdet-lite0")
    own = TappedModel(keras.Model(x, taps[-1]), {level: f"level{level}" for level in (3, 4, 5)})
    model = effkeras.build(base, backbone=own)
    pruned = prune_channels(model, dataclasses.replace(HALF, keep=0.7))
    spec = spec_of(pruned.model)
    assert spec.channels
    again = build_spec(spec, part=own_part(pruned.model, spec))
    again.set_weights(pruned.model.get_weights())
    assert largest_error(pruned.model, again) == 0
    reasons = {one.name: one.why for one in pruned.report.skipped}
    assert reasons["backbone_level4"] == "the feature pyramid takes it"


def two_layers() -> tuple[keras.Model, list[np.ndarray]]:
    x = keras.Input((4, 4, 1))
    y = layers.Conv2D(3, 1, use_bias=False, name="a")(x)
    y = layers.BatchNormalization(name="bn")(y)
    model = keras.Model(x, layers.Dense(1, use_bias=False, name="end")(layers.GlobalAveragePooling2D()(y)))
    model.get_layer("a").set_weights([np.array([1.0, -2.0, 6.0]).reshape(1, 1, 1, 3)])
    gamma = np.array([3.0, -1.0, 2.0])
    model.get_layer("bn").set_weights([gamma, np.zeros(3), np.zeros(3), np.ones(3)])
    return model, [gamma]


def test_importance_by_hand():
    channels = find_channels(two_layers()[0], {})
    units = channels.unit[channels.flow.layers["a"].made]
    np.testing.assert_allclose(by_norm(channels)[units], [1 / 3, 2 / 3, 2])
    np.testing.assert_allclose(by_scale(channels)[units], [1.5, 0.5, 1])


def test_taylor_is_the_slope_of_fading_a_unit_out():
    model = model_for("efficientnet-b0")
    channels = find_channels(model, {})
    random = np.random.default_rng(0)
    pixels = random.uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    targets = random.normal(size=(3, 3)).astype(np.float32)

    def loss(given, found):
        return keras.ops.mean(given * found)

    importance = by_taylor(channels, loss, [(pixels, targets)])
    units = channels.groups[channels.free[2]].units
    unit = int(units[np.argmax(importance[units])])

    def faded(share: float) -> float:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        for flow in channels.flow.layers.values():
            if flow.mixed is not None:
                values = copy.get_layer(flow.layer.name).get_weights()
                kernel = np.moveaxis(values[flow.mixed.weight], flow.mixed.axis, 0)
                kernel[channels.unit[flow.mixed.numbers] == unit] *= 1 - share
                copy.get_layer(flow.layer.name).set_weights(values)
        return float(loss(targets, copy(pixels)))

    slope = (faded(0.1) - faded(-0.1)) / 0.2
    assert importance[unit] == pytest.approx(slope**2, rel=0.03)


def test_taylor_takes_batches_or_a_data_set(digits):
    data = open_data(digits, "train")
    spec = tiny_spec("efficientdet-lite0").replace(classes=len(data.labels))
    model = build_spec(spec)
    taylor = dataclasses.replace(HALF, importance="taylor")
    pruned = prune_channels(model, taylor, data)
    assert pruned.report.figures["macs_after"] <= 0.5 * pruned.report.figures["macs_before"]
    other, _ = two_layers()
    other.compile(loss="mse")
    batch = (np.random.default_rng(0).normal(size=(2, 4, 4, 1)), np.ones((2, 1)))
    assert prune_channels(other, dataclasses.replace(taylor, smallest=1, divisor=1), [batch]).report.done


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": 0.0}, "keep must lie between 0 and 1, not 0.0"),
        ({"keep": 1.0}, "keep must lie between 0 and 1"),
        ({"divisor": 0}, "divisor must be at least 1, not 0"),
        ({"smallest": 0}, "smallest must be at least 1, not 0"),
        ({"keep": 0.01}, r"1% of the multiply-adds cannot be reached; .* \d+% is the least"),
        ({"importance": "taylor"}, "needs labelled images"),
        ({"skip": (r"(",)}, r"skip = '\(' is not a valid regular expression"),
    ],
)
def test_settings_that_cannot_be_are_one_line(change, message):
    with pytest.raises(EffkerasError, match=message):
        prune_channels(model_for("efficientnet-lite0"), dataclasses.replace(HALF, **change))


def test_models_that_cannot_be_pruned_are_refused():
    model, _ = two_layers()
    with pytest.raises(EffkerasError, match=r"compile 'functional.*' first"):
        prune_channels(model, ChannelSpec(importance="taylor", smallest=1, divisor=1), [(np.ones(1), 1)])
    model.get_layer("a").set_weights([np.full((1, 1, 1, 3), np.nan)])
    with pytest.raises(EffkerasError, match=r"a/kernel .* is not finite"):
        prune_channels(model, HALF)
    x = keras.Input((None, None, 3))
    with pytest.raises(EffkerasError, match="input size is open"):
        prune_channels(keras.Model(x, layers.Conv2D(2, 1)(layers.Conv2D(4, 1)(x))), HALF)


@pytest.mark.parametrize("true_share", [lambda e: e, lambda e: 0.3 + 0.7 * e, lambda e: e**2])
def test_a_latency_is_found_with_few_measurements(true_share):
    estimates = np.linspace(1, 0.05, 400)
    measured: list[int] = []

    def measure(steps: int) -> float:
        measured.append(steps)
        return true_share(estimates[steps])

    point = bisect(estimates, 0.5, measure)
    assert 0.5 - CLOSE <= point.measured <= 0.5
    assert point.measured == true_share(estimates[point.steps])
    assert len(measured) <= 5


def test_a_latency_out_of_reach_says_what_was_measured():
    with pytest.raises(
        EffkerasError, match=r"10% of the latency cannot be reached: 40% was measured after 99"
    ):
        bisect(np.linspace(1, 0.2, 100), 0.1, lambda steps: max(0.4, 1 - steps / 99))


@pytest.mark.slow
def test_half_the_latency_is_measured():
    model = effkeras.build("efficientnet-lite0", input_shape=(128, 128), classes=3)
    pruned = prune_channels(model, ChannelSpec(keep=0.7, cost="latency"))
    assert pruned.report.figures["latency_ratio"] <= 0.7
    assert outputs(pruned.model, np.zeros((1, 128, 128, 3), np.float32))[0].shape == (1, 3)
