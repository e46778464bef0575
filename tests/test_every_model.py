"""Every model of the zoo is built at a small size, has what was counted, and runs."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
from support.proofs import BUILT, proves

import effkeras
from effkeras.building.models import build_spec
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count, layer_channels

CLASSIFIER_SIDES, DETECTOR_SIDES, APPLICATION_SIDES = (64, 96), (128, 96), (96, 128)
# Second ones of a way to build blocks.
SLOW = (
    *("efficientnet-digits-b0", "efficientnetv2-b0", "efficientdet-digits-d0", "efficientnet-lite0"),
    *("mobilenet-v2-0.35", "mobilenet-v3-small-minimalistic"),
)
# A small one for each way to build blocks; tests/graph/ has cells and those that Keras builds.
QUICK = (
    *("efficientnet-digits", "efficientnet-digits-b0", "efficientnet-edgetpu-s", "efficientnet-lite0"),
    *("efficientnetv2-b0", "efficientdet-digits", "efficientdet-digits-d0", "mnasnet-a1-0.35"),
    *("mobilenet-v2-0.35", "mobilenet-v3-small", "mobilenet-v3-small-minimalistic", "squeezenet-1.1"),
)
# Their windows leave out the border unless they are a detector's; tests/test_backbones.py builds those.
WITHOUT_BORDER = ("inceptionresnetv2", "inceptionv3", "xception")


def _param(model: str) -> object:
    nightly = [] if model in QUICK else [pytest.mark.nightly("zoo")]
    slow = [pytest.mark.slow] if model in SLOW else []
    return pytest.param(model, marks=[proves(model, BUILT), *nightly, *slow], id=model)


def _sides(spec: ModelSpec) -> tuple[int, int]:
    if spec.network.needs_keras:
        return APPLICATION_SIDES
    return DETECTOR_SIDES if spec.is_detector else CLASSIFIER_SIDES


@pytest.mark.parametrize("model", [_param(model) for model in effkeras.list_models()])
def test_a_model_is_what_was_counted_and_runs(model):
    spec = effkeras.spec(model)
    spec = with_size(spec, _sides(spec))
    built = build_spec(spec)
    _has_what_was_counted(built, spec)
    if spec.network.needs_keras and model not in WITHOUT_BORDER:
        _taps_are_a_pyramid(built, spec)
    images = np.random.default_rng(0).uniform(0, 255, (1, *spec.input.size, 3)).astype("float32")
    outputs = built(images, training=False)
    for output in outputs.values() if spec.is_detector else [outputs]:
        assert np.isfinite(np.asarray(output)).all()
    if not spec.is_detector:
        assert np.asarray(outputs).sum() == pytest.approx(1, abs=1e-4)
    del built, outputs
    gc.collect()  # the largest hold gigabytes


def _has_what_was_counted(built: keras.Model, spec: ModelSpec) -> None:
    counts = count(spec)
    assert counts.trainable == sum(int(np.prod(weight.shape)) for weight in built.trainable_weights)
    assert counts.total == sum(int(np.prod(weight.shape)) for weight in built.weights)
    assert counts.macs == walked_macs(built)
    with_weights = {layer.name: layer for layer in built.layers if layer.weights}
    channels = layer_channels(spec)
    assert set(channels) == set(with_weights)
    for name, layer in with_weights.items():
        assert _outputs(layer)[0][-1] == channels[name], name


def _taps_are_a_pyramid(built: keras.Model, spec: ModelSpec) -> None:
    operations = {one.name: one for one in built.operations}  # a tap may be a sum, which is no layer
    for level, tap in enumerate(spec.network.taps, start=3):
        wanted = tuple(side // 2**level for side in spec.input.size)
        assert _outputs(operations[tap])[0][1:3] == wanted, tap


def walked_macs(model: keras.Model) -> int:
    """Multiply-adds from the layers' kernels and the shapes that they put out, call by call."""
    total = 0
    for layer in model.layers:
        kernels = [weight for weight in layer.weights if "kernel" in weight.name]
        for shape in _outputs(layer) if kernels else []:
            positions = int(np.prod(shape[1:-1]))
            total += positions * sum(int(np.prod(kernel.shape)) for kernel in kernels)
    return total


def _outputs(layer: keras.Operation) -> list[tuple[int | None, ...]]:
    return [tensor.shape for node in layer._inbound_nodes for tensor in node.output_tensors]
