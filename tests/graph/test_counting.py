"""Counts are the published ones, and those of the models that are built."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import effkeras
from effkeras.definition import ModelSpec, with_size
from effkeras.errors import EffkerasError
from effkeras.graph.counting import count, layer_channels
from effkeras.models import build_spec

# Counted on the official networks (tensorflow/tpu efficientnet and efficientnet/lite; google/automl):
# width, depth, size, trainable weights, all weights, multiply-adds in millions
CLASSIFIERS = {
    "b0": (1.0, 1.0, 224, 5_288_548, 5_330_564, 385.8),
    "b1": (1.0, 1.1, 240, 7_794_184, 7_856_232, 686.8),
    "b2": (1.1, 1.2, 260, 9_109_994, 9_177_562, 993.6),
    "b3": (1.2, 1.4, 300, 12_233_232, 12_320_528, 1827.1),
    "b4": (1.4, 1.8, 380, 19_341_616, 19_466_816, 4393.8),
    "b5": (1.6, 2.2, 456, 30_389_784, 30_562_520, 10266.4),
    "b6": (1.8, 2.6, 528, 43_040_704, 43_265_136, 19067.6),
    "b7": (2.0, 3.1, 600, 66_347_960, 66_658_680, 37745.9),
    "b8": (2.2, 3.6, 672, 87_413_142, 87_793_174, 62597.5),
    "l2": (4.3, 5.3, 800, 480_309_308, 481_399_996, 475703.7),
    "lite0": (1.0, 1.0, 224, 4_652_008, 4_694_024, 385.2),
    "lite1": (1.0, 1.1, 240, 5_416_680, 5_470_344, 600.2),
    "lite2": (1.1, 1.2, 260, 6_092_072, 6_150_168, 859.7),
    "lite3": (1.2, 1.4, 280, 8_197_096, 8_273_768, 1383.3),
    "lite4": (1.4, 1.8, 300, 13_006_568, 13_118_936, 2553.0),
}

# google/automl efficientdet `hparams_config.py`, counted on the official networks:
# network, size, channels, cells, repeats, levels, fusion, trainable, all, multiply-adds in billions as the
# TensorFlow profiler has them, which counts a few more operations
DETECTORS = {
    "d0": ("b0", 512, 64, 3, 3, (3, 7), "fast", 3_880_067, 3_927_203, 2.549),
    "d1": ("b1", 640, 88, 4, 3, (3, 7), "fast", 6_625_898, 6_697_354, 6.133),
    "d2": ("b2", 768, 112, 5, 3, (3, 7), "fast", 8_097_039, 8_178_815, 11.045),
    "d3": ("b3", 896, 160, 6, 4, (3, 7), "fast", 12_032_296, 12_146_600, 24.983),
    "d4": ("b4", 1024, 224, 7, 4, (3, 7), "fast", 20_723_675, 20_890_987, 55.348),
    "d5": ("b5", 1280, 288, 7, 4, (3, 7), "fast", 33_653_315, 33_880_707, 135.743),
    "d6": ("b6", 1280, 384, 8, 5, (3, 7), "sum", 51_871_782, 52_183_766, 226.047),
    "d7": ("b6", 1536, 384, 8, 5, (3, 7), "sum", 51_871_782, 52_183_766, 325.505),
    "d7x": ("b7", 1536, 384, 8, 5, (3, 8), "sum", 77_147_166, 77_564_894, 411.068),
    "lite0": ("lite0", 320, 64, 3, 3, (3, 7), "sum", 3_243_470, 3_290_606, 0.976),
    "lite1": ("lite1", 384, 88, 4, 3, (3, 7), "sum", 4_248_318, 4_311_390, 1.972),
    "lite2": ("lite2", 448, 112, 5, 3, (3, 7), "sum", 5_252_334, 5_324_894, 3.381),
    "lite3": ("lite3", 512, 160, 6, 4, (3, 7), "sum", 8_350_862, 8_455_054, 7.501),
    "lite3x": ("lite3", 640, 200, 6, 4, (3, 7), "sum", 9_280_862, 9_392_574, 14.017),
    "lite4": ("lite4", 640, 224, 7, 4, (3, 7), "sum", 15_130_894, 15_286_398, 20.217),
}

SMALL = {"efficientnet-digits": (32, 32), "efficientdet-digits": (64, 96)}


def scaled(spec: ModelSpec, network: str) -> ModelSpec:
    width, depth = CLASSIFIERS[network][:2]
    return spec.replace(network=dataclasses.replace(spec.network, width=width, depth=depth))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_cost_what_is_published(name):
    _, _, size, trainable, total, mega = CLASSIFIERS[name]
    base = effkeras.spec("efficientnet-lite0" if name.startswith("lite") else "b0")
    counts = count(with_size(scaled(base, name), (size, size)))
    assert (counts.trainable, counts.total) == (trainable, total)
    assert counts.macs == pytest.approx(mega * 1e6, rel=1e-3)


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_cost_what_is_published(name):
    network, size, channels, cells, repeats, levels, fusion, trainable, total, giga = DETECTORS[name]
    base = effkeras.spec("efficientdet-lite0" if name.startswith("lite") else "d0")
    fpn = dataclasses.replace(base.fpn, channels=channels, cells=cells, levels=levels, fusion=fusion)
    head = dataclasses.replace(base.head, repeats=repeats)
    counts = count(with_size(scaled(base, network).replace(fpn=fpn, head=head), (size, size)))
    assert (counts.trainable, counts.total) == (trainable, total)
    assert 0.97 * giga * 1e9 < counts.macs <= giga * 1e9


BUILT = [name for name in effkeras.list_models() if count(effkeras.spec(name)).trainable < 10e6]


@pytest.fixture(scope="module", params=BUILT)
def built(request) -> tuple[ModelSpec, keras.Model]:
    spec = with_size(effkeras.spec(request.param), SMALL.get(request.param, (64, 96)))
    return spec, build_spec(spec)


def test_counts_are_those_of_the_built_model(built):
    spec, model = built
    counts = count(spec)
    assert counts.trainable == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert counts.total == sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert counts.macs == walked_macs(model)


def test_channels_are_those_of_the_built_model(built):
    spec, model = built
    with_weights = {layer.name: layer for layer in model.layers if layer.weights}
    channels = layer_channels(spec)
    assert set(channels) == set(with_weights)
    for name, layer in with_weights.items():
        assert _outputs(layer)[0][-1] == channels[name], name


def walked_macs(model: keras.Model) -> int:
    """Multiply-adds from the layers' kernels and the shapes that they put out, call by call."""
    total = 0
    for layer in model.layers:
        kernels = [weight for weight in layer.weights if "kernel" in weight.name]
        for shape in _outputs(layer) if kernels else []:
            positions = int(np.prod(shape[1:-1]))
            total += positions * sum(int(np.prod(kernel.shape)) for kernel in kernels)
    return total


def _outputs(layer: keras.Layer) -> list[tuple[int | None, ...]]:
    return [tensor.shape for node in layer._inbound_nodes for tensor in node.output_tensors]


def test_impossible_sums_are_refused():
    spec = effkeras.spec("b0").replace(channels={"block1_project_conv": 20})
    with pytest.raises(EffkerasError, match="block2_add cannot add maps of 20 and 24 channels"):
        count(spec)
