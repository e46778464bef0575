"""Concatenations of more maps than XNNPACK takes at once."""

from __future__ import annotations

import dataclasses

import pytest
from support.tiny_models import tiny_spec

from effkeras.building.models import build_spec
from effkeras.detection.boxes import anchor_boxes
from effkeras.graph.vocabulary import concatenated
from effkeras.litert.runner import delegation, make_interpreter
from export.benchmarks.random_models import artifacts_on_random_images


@pytest.mark.parametrize("count", [1, 2, 5, 6, 11, 26])
def test_all_are_there_in_order_and_never_more_than_five_at_once(count):
    made = {}

    def concat(maps, name):
        assert 2 <= len(maps) <= 5
        made[name] = sum(maps, ())
        return made[name]

    assert concatenated([(index,) for index in range(count)], "all", concat) == tuple(range(count))
    assert len(made) == 0 or list(made)[-1] == "all"


@pytest.mark.slow
def test_six_levels_of_a_detector_are_one_partition():
    """Those of D7x."""
    spec = tiny_spec("efficientdet-lite0")
    levels = dataclasses.replace(spec.fpn, levels=(3, 8))
    spec = spec.replace(fpn=levels, input=dataclasses.replace(spec.input, size=(256, 256)))
    model = build_spec(spec)
    assert model.output["class_logits"].shape == (None, len(anchor_boxes(spec)), 3)
    for recipe, flatbuffer in artifacts_on_random_images(model, ("float32", "int8")).items():
        found = delegation(make_interpreter(flatbuffer), flatbuffer)
        assert (found.delegated_ops, found.partitions) == (found.total_ops, 1), recipe
