"""The README's table is made of the newest rows, whatever else the file holds."""

from __future__ import annotations

import pytest

from effkeras.support.errors import EffkerasError
from export.benchmarks.digits import MODELS, RECIPES, markdown

TIMES = {"threads": 1, "median_ms": 2, "p95_ms": 3}


def rows(drop: float) -> list[dict]:
    made = [
        {
            "kind": "export",
            "model": model,
            "artifact": f"{recipe}.tflite",
            "recipe": recipe,
            "metric": "AP",
            "float_metrics": {"AP": 0.75},
            "artifact_metrics": {"AP": 0.75 - drop},
            "drop": drop,
            "bytes": 123456,
            "delegated_ops": 9,
            "total_ops": 10,
        }
        for model in MODELS
        for recipe in RECIPES
    ]
    timed = [
        {
            **row,
            "kind": "latency",
            "kernels": kernels,
            "threads": 1,
            "min_ms": ms,
            "median_ms": 2,
            "p95_ms": 3,
        }
        for row in made
        for kernels, ms in (("XNNPACK", 1.5), ("plain", 9.0))
    ]
    return [{"kind": "conversion", "model": "efficientdet-lite0"}, *made, *timed]


def test_newest_rows_count():
    table = markdown([*rows(0.5), *rows(0.01)])
    assert len(table.splitlines()) == 2 + len(MODELS) * len(RECIPES)
    figures = "0.750 | 0.740 | +0.0100 | 123 | 1.50 / 2.00 / 3.00 | 9 of 10 ops"
    assert f"| efficientdet-digits | int8 | AP | {figures} |" in table.splitlines()


def test_missing_rows_name_the_way_out():
    with pytest.raises(EffkerasError, match="make bench"):
        markdown(rows(0.1)[:3])
