"""Masks, schedules and a whole training against what tensorflow-model-optimization made."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.tfmot_answers import SOURCES, answers
from support.tfmot_pruning import RATE, SCHEDULES, SHAPES, STEPS, TRAINING, WAYS, given

from quantize.magnitude.patterns import parse_pattern, pruning_masks
from quantize.magnitude.pruning import PruneHook, Schedule
from quantize.specs import PruneSpec

# The reference has blocks of dense layers only.
CASES = [(name, way) for name in SHAPES for way in WAYS if "x" not in way or name.startswith("dense")]


@pytest.fixture(scope="module", params=SOURCES)
def wanted(request, tmp_path_factory) -> dict[str, np.ndarray]:
    return answers("pruning", request.param, tmp_path_factory.mktemp("tfmot"))


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
