from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.magnitude.pruning import Schedule
from quantize.specs import PruneSpec

SPEC = PruneSpec(sparsity=0.8)


def sparsities(schedule: Schedule, steps: int) -> list[float]:
    """The sparsity at every turn of a training."""
    return [schedule.sparsity(step) for step in range(1, steps + 1) if schedule.is_turn(step)]


@settings(deadline=None)
@given(
    st.integers(1, 500),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 700),
    st.sampled_from(["polynomial", "constant"]),
)
def test_every_training_reaches_the_full_sparsity(steps, one, other, every, kind):
    begin, end = sorted((one, other))
    spec = PruneSpec(sparsity=0.7, begin=begin, end=end, every=every, schedule=kind)
    found = sparsities(Schedule.of(spec, steps), steps)
    assert found[-1] == np.float32(0.7)
    assert found == sorted(found)


def test_growth_is_fast_at_first():
    found = sparsities(Schedule.of(SPEC, 1000), 1000)
    assert found[0] == 0
    growth = np.diff(found)
    assert (np.diff(growth) < 1e-7).all()


def test_constant_is_full_from_the_start():
    spec = PruneSpec(sparsity=0.6, schedule="constant", start=0.9)
    schedule = Schedule.of(spec, 100)
    assert schedule.is_turn(1)
    assert set(sparsities(schedule, 100)) == {float(np.float32(0.6))}


def test_no_turn_before_the_begin_or_after_the_end():
    schedule = Schedule.of(PruneSpec(begin=0.2, end=0.6, every=7), 100)
    turns = [step for step in range(1, 101) if schedule.is_turn(step)]
    assert turns == [20, 27, 34, 41, 48, 55]


@pytest.mark.parametrize("begin", [0.0, 0.3, 1.0])
def test_one_change_is_made_at_the_begin(begin):
    spec = PruneSpec(begin=begin, end=1.0)
    schedule = Schedule.once(spec, 50)
    turns = [step for step in range(1, 51) if schedule.is_turn(step)]
    assert turns == [max(1, round(50 * begin))]
    assert schedule.sparsity(turns[0]) == 0.5
