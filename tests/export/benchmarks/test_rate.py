"""The share of the best rate, and statistics that make every level's batch norm another one."""

from __future__ import annotations

import numpy as np
from support.tiny_models import tiny_model

from effkeras.support.measurements import Delegation, Latency
from export.benchmarks.random_models import draw_statistics
from export.benchmarks.rate import Rate, row_of


def rate(name: str, macs: int, fastest: float) -> Rate:
    latency = Latency(
        "xnnpack", "XNNPACK", 1, 50, 5, fastest, fastest, 2 * fastest, 3 * fastest, Delegation(10, 10, 1)
    )
    return Rate(name, "int8", macs, latency)


def test_the_network_is_put_beside_the_fastest_convolution():
    found = [rate("net", 1_000_000_000, 50.0), rate("slow", 10**8, 10.0), rate("fast", 10**8, 2.5)]
    row = row_of(found)
    assert (row["giga_macs_per_s"], row["best_giga_macs_per_s"], row["best"]) == (20.0, 40.0, "fast")
    assert row["share"] == 0.5


def test_levels_get_statistics_of_their_own():
    model = tiny_model("efficientdet-lite0")
    kept = model.get_weights()
    draw_statistics(model)
    levels = [
        layer.moving_variance.numpy()
        for layer in model.layers
        if layer.name.startswith("class0_p") and layer.name.endswith("_bn")
    ]
    model.set_weights(kept)
    assert len(levels) >= 5
    assert not any(np.allclose(levels[0], other) for other in levels[1:])
