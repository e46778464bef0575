"""Quantizing networks without a definition, and images that say nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.eager import outputs_of_model
from support.in_bits import in_8_bits
from support.own_networks import SIDE, outputs_of, own_images, own_network
from support.tiny_models import decibels, quantized

from effkeras import EffkerasError
from effkeras.data.records import ClassificationData
from quantize import ptq
from quantize.formats import find
from quantize.post_training.activations import observe
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts
from quantize.post_training.ranges import RangeRule, measure_ranges
from quantize.precision.measurements import run_all
from quantize.specs import PtqSpec


def flatbuffer() -> bytes:
    return float_parts(own_network(), PtqOptions(find("float32"))).flatbuffer


@pytest.mark.parametrize(
    "given", [lambda x: x, list, iter, lambda x: x.astype(np.uint8), lambda x: x[:, None]]
)
def test_images_in_any_form_give_the_same_artifact(given):
    wanted = ptq(own_network(), "int8", own_images(6)).flatbuffer
    assert ptq(own_network(), "int8", given(own_images(6))).flatbuffer == wanted


def test_only_so_many_images_are_taken():
    first = ptq(own_network(), "int8", own_images(6), samples=3).flatbuffer
    other = ptq(own_network(), "int8", own_images(6)[:3], samples=3).flatbuffer
    assert first == other


def test_several_outputs_keep_their_names():
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(pixels)
    outputs = [keras.layers.Conv2D(n, 1, name=f"head{n}")(x) for n in (2, 3)]
    shown = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    model = keras.Model(pixels, outputs)
    made = ptq(model, "int8", shown)
    (found,) = run_all(made.flatbuffer, shown[:1, None])
    wanted = dict(zip(("head2", "head3"), outputs_of_model(model, shown[:1]), strict=True))
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert decibels(values, found[name]) > 25


def test_a_sequential_model_too():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    shown = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    made = ptq(model, "int8", shown)
    assert decibels(outputs_of_model(model, shown), outputs_of(made.flatbuffer, shown)) > 25
    assert made.left_in_float == ()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((4, SIDE, SIDE, 3), 90.0), "one and the same colour"),
        (np.full((4, SIDE, SIDE, 3), (255.0, 128.0, 0.0)), "one and the same colour"),
        (np.zeros((0, SIDE, SIDE, 3)), "none of the calibration images"),
        (np.full((4, SIDE, SIDE, 3), np.nan), "not a number"),
        (np.zeros((4, SIDE, SIDE, 1)), "the model takes"),
        (np.zeros((4, SIDE, SIDE, 3), complex), "complex"),
        (ClassificationData("data", "train", ("a",), ()), "does not say how its images are prepared"),
    ],
)
@pytest.mark.parametrize("backend", ["ai-edge-quantizer", "tensorflow"])
def test_images_that_say_nothing_are_refused(images, message, backend):
    with pytest.raises(EffkerasError, match=message):
        ptq(own_network(), "int8", images, spec=PtqSpec(backend=backend))


def test_integer_inputs_and_outputs_need_a_definition():
    with pytest.raises(EffkerasError, match="use --io float32"):
        ptq(own_network(), "int8", own_images(2), io="uint8")


def test_weights_that_are_not_finite_are_named():
    model = keras.models.clone_model(own_network())
    model.get_layer("project").kernel.assign(np.full((1, 1, 8, 12), np.inf))
    with pytest.raises(EffkerasError, match="project/kernel"):
        ptq(model, "float32")


def test_activations_that_overflow_are_named():
    model = keras.models.clone_model(own_network())
    model.set_weights(own_network().get_weights())
    model.get_layer("project_bn").gamma.assign(np.full(12, 3e38))
    with pytest.raises(EffkerasError, match=r"layer '(project|project_bn)' outputs (NaN|infinite)"):
        ptq(model, "int8", own_images(2))


def test_ranges_by_mse_round_best_and_percentiles_are_narrower():
    shown = own_images(8)[:, None]
    ranges = {
        method: measure_ranges(flatbuffer(), shown, RangeRule(method, 0.99))
        for method in ("minmax", "percentile", "mse")
    }
    values: dict[str, list[np.ndarray]] = {}
    for seen in observe(flatbuffer(), shown):
        values.setdefault(seen.name, []).append(seen.values.ravel())
    outputs = [name for name in values if name == "last"]
    better = 0
    for name, parts in values.items():
        together = np.concatenate(parts)
        (low, high), (least, most) = (
            (min(float(one[name]["min"][0]), 0), max(float(one[name]["max"][0]), 0))
            for one in (ranges["mse"], ranges["minmax"])
        )
        assert least - 1e-6 <= low <= high <= most + 1e-6
        tight = np.square(in_8_bits(together, low, high) - together).mean()
        wide = np.square(in_8_bits(together, least, most) - together).mean()
        assert tight <= 1.02 * wide
        better += tight < 0.99 * wide
    assert better > 0
    for name in outputs:
        assert ranges["mse"][name] == ranges["minmax"][name] == ranges["percentile"][name]
    widths = {
        method: sum(float(np.ptp([one["min"], one["max"]])) for one in found.values())
        for method, found in ranges.items()
    }
    assert widths["percentile"] < widths["minmax"]


@pytest.mark.parametrize(
    ("recipe", "backend", "method"),
    [
        ("int8", "ai-edge-quantizer", "percentile"),
        ("int4", "ai-edge-quantizer", "percentile"),
        ("w8a16", "ai-edge-quantizer", "minmax"),
        ("int8", "tensorflow", "minmax"),
    ],
)
def test_ranges_that_nobody_chose_clip_where_there_are_few_bits(recipe, backend, method):
    shown = own_images(4)
    made = ptq(own_network(), recipe, shown, spec=PtqSpec(backend=backend))
    chosen = ptq(own_network(), recipe, shown, spec=PtqSpec(method, backend=backend))
    assert made.flatbuffer == chosen.flatbuffer


@pytest.mark.parametrize(
    ("name", "method"), [("efficientdet-lite0", "mse"), ("efficientnet-lite0", "percentile")]
)
def test_only_a_detectors_ranges_keep_the_strong_values_of_small_objects(name, method):
    assert quantized(name, "int8", "uint8").ranges == method


def test_a_method_that_does_not_exist_gets_a_hint():
    with pytest.raises(EffkerasError, match="did you mean 'percentile'"):
        ptq(own_network(), "int8", own_images(2), spec=PtqSpec(ranges="percentil"))
    with pytest.raises(EffkerasError, match="above 0 and at most 1"):
        ptq(own_network(), "int8", own_images(2), spec=PtqSpec(ranges="percentile", percentile=99.9))


def test_the_report_names_every_layer_and_its_error():
    made = ptq(own_network(), "int8", own_images(8), spec=PtqSpec(errors=True))
    errors = {layer.name: layer.error for layer in made.report.layers if layer.error is not None}
    assert {"first_act", "depthwise_act", "join", "last"} <= errors.keys()
    wanted = outputs_of_model(own_network(), own_images(8))
    got = outputs_of(made.flatbuffer, own_images(8))
    own = np.sqrt(np.square(wanted - got).mean()) / wanted.std()
    assert errors["last"] == pytest.approx(own, rel=0.15)  # XNNPACK against plain kernels
    assert ptq(own_network(), "int8", own_images(8)).report.layers[0].error is None
