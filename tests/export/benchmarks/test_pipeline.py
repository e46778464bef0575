"""The rows of the benchmark of the input pipeline: what is divided by what."""

from __future__ import annotations

import pytest

from export.benchmarks.pipeline import Case, Measured, Turn, draw_set, measure


def test_images_and_boxes_are_the_same_for_each_process(tmp_path):
    first, again = (draw_set(tmp_path, 0, 3).records for _ in range(2))
    assert [one.boxes.tolist() for one in first] == [one.boxes.tolist() for one in again]
    assert len(draw_set(tmp_path, 93, 1).records[0].boxes) == 93


def test_a_second_core_is_compared_by_the_fastest_turns():
    one = tuple(Turn(4.0, seconds, 0.4, 0.0) for seconds in (0.005, 0.004, 0.009))
    made = Measured(Case(320, "light", 93), one, tuple(Turn(5.0, 0.002, 0.4, 0.0) for _ in range(3)))
    assert made.speedup == pytest.approx(2)
    assert made.projected == pytest.approx(1000 / (0.4 + 3.6 / 16))
    row = made.to_row()
    assert row["case"] == "320 px, light, 93 boxes"
    assert row["images_per_second_1_core"] == [200, 250, 111]


@pytest.mark.slow
def test_images_are_decoded_each_time_in_the_same_memory(tmp_path):
    """Two hundred images, of which every one would stay if anything held it: 45 MiB."""
    turns = measure(Case(320, is_held=False), tmp_path, 64)
    assert sum(turn.growth for turn in turns) < 20
    assert all(turn.cpu_ms > 0 for turn in turns)
