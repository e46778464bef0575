"""Masks, schedules and a whole training against tensorflow-model-optimization, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support import tfmot_pruning
from support.tfmot_pruning import RATE, SCHEDULES, STEPS, TRAINING, WAYS

from quantize.magnitude.patterns import parse_pattern, pruning_masks
from quantize.magnitude.pruning import PruneHook, Schedule
from quantize.specs import PruneSpec

SHAPES = {
    "dense.even": (24, 16),
    "dense.odd": (13, 10),
    "dense.ties": (16, 12),
    "conv.3x3": (3, 3, 16, 8),
    "conv.rgb": (3, 3, 3, 8),
    "conv.1x1": (1, 1, 30, 10),
    "separable": (1, 1, 10, 6),
    "transposed": (2, 2, 8, 12),
}
# The reference has blocks of dense layers only.
CASES = [(name, way) for name in SHAPES for way in WAYS if "x" not in way or name.startswith("dense")]


def given() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    kernels = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    kernels["dense.ties"] = np.round(kernels["dense.ties"] * 2) / 2
    shapes = {"training.kernel": (12, 8), "training.x": (32, 12), "training.y": (32, 8)}
    return kernels | {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("tfmot")
    source, target = folder / "given.npz", folder / "found.npz"
    np.savez(source, **given())
    script = Path(tfmot_pruning.__file__)
    subprocess.run([sys.executable, script, source, target], check=True, capture_output=True)
    with np.load(target) as found:
        return dict(found)


def spec_for(way: str) -> PruneSpec:
    sparsity, options = WAYS[way]
    pattern = "unstructured" if way.startswith("sparse") else way
    pooling = "max" if options.get("block_pooling_type") == "MAX" else "average"
    return PruneSpec(sparsity=sparsity, pattern=pattern, pooling=pooling)


@pytest.mark.parametrize(("name", "way"), CASES)
def test_masks_are_the_same_to_the_bit(wanted, name, way):
    spec = spec_for(way)
    (mask,) = pruning_masks([given()[name]], parse_pattern(spec.pattern, spec.pooling), spec.sparsity)
    np.testing.assert_array_equal(mask, wanted[f"{name}.{way}"] == 1)


@pytest.mark.parametrize("number", range(len(SCHEDULES)))
def test_schedules_are_the_same_step_for_step(wanted, number):
    schedule = Schedule(*SCHEDULES[number])
    turns = [schedule.is_turn(step) for step in range(STEPS)]
    np.testing.assert_array_equal(turns, wanted["schedules"][number, :, 0] == 1)
    sparsities = [schedule.sparsity(step) for step in range(STEPS)]
    np.testing.assert_allclose(sparsities, wanted["schedules"][number, :, 1], rtol=0, atol=1e-7)


def test_a_training_prunes_the_same_weights_at_the_same_steps(wanted):
    start, final, begin, end, every, power = TRAINING
    inputs = given()
    layer = keras.layers.Dense(8, use_bias=False, name="only")
    model = keras.Sequential([keras.Input((12,)), layer])
    layer.kernel.assign(inputs["training.kernel"])
    model.compile(keras.optimizers.SGD(RATE, momentum=0.9), loss="mse")
    steps = 16
    spec = PruneSpec(final, start, power=power, begin=begin / steps, end=end / steps, every=every, skip=())
    hook, masks = PruneHook(spec), []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: masks.append(np.array(hook.state()[1]))
    )
    model.fit(
        inputs["training.x"],
        inputs["training.y"],
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[hook, note],
    )
    np.testing.assert_array_equal(masks, wanted["training"][:-1] == 1)
    np.testing.assert_allclose(layer.kernel, wanted["training"][-1], atol=1e-6)
