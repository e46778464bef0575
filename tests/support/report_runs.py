"""Run folders with made-up figures, for tests of reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from effkeras.definitions import zoo
from effkeras.support import results

Row = dict[str, Any]


def detector_metrics(ap: float) -> dict[str, float]:
    return {"AP": ap, "AP50": 0.9712, "AP75": 0.9333, "APs": 0.7001, "APm": 0.8502, "AR": 0.8803}


def export_row(recipe: str, size: int, ap: float, **changes: Any) -> Row:
    row = {
        "kind": "export",
        "model": "efficientdet-digits",
        "artifact": f"{recipe}.tflite",
        "recipe": recipe,
        "io": "float32",
        "bytes": size,
        "calibration_images": 0,
        "metric": "AP",
        "split": "test",
        "images": 500,
        "float_metrics": detector_metrics(0.8420),
        "artifact_metrics": detector_metrics(ap),
        "drop": 0.8420 - ap,
        "total_ops": 182,
        "delegated_ops": 180,
        "partitions": 3,
        "float_ops": [],
        "remedies": [],
        "passed": True,
    }
    return results.stamped(row | changes)


def latency_row(recipe: str, median: float, kernels: str = "XNNPACK", threads: int = 1) -> Row:
    taken = 182 if kernels == "XNNPACK" else 0
    row = {
        "kind": "latency",
        "model": "efficientdet-digits",
        "artifact": f"{recipe}.tflite",
        "kernels": kernels,
        "threads": threads,
        "runs": 50,
        "warmup": 10,
        "min_ms": median - 0.11,
        "median_ms": median,
        "p95_ms": median + 0.22,
        "mean_ms": median,
        "total_ops": 182,
        "delegated_ops": taken,
        "partitions": 1 if taken else 0,
    }
    return results.stamped(row)


def eval_row(artifact: str, ap: float, images: int = 500) -> Row:
    row = {"kind": "eval", "artifact": artifact, "split": "test", "images": images}
    return results.stamped(row | {"metrics": detector_metrics(ap)})


def epoch_rows(count: int) -> list[Row]:
    return [
        {"kind": "epoch", "epoch": n + 1, "loss": 3 / (n + 1), "metrics": {"AP": 0.1 * n}}
        for n in range(count)
    ]


def full_rows() -> list[Row]:
    settings = [("XNNPACK", 1, 1.0), ("XNNPACK", 2, 0.6), ("plain", 1, 9.0)]
    exports = [
        export_row("float32", 1_654_320, 0.8420),
        export_row("fp16", 842_112, 0.8421),
        export_row("dynamic", 521_000, 0.8385),
        export_row("int8", 498_765, 0.8391),
    ]
    medians = {"float32": 2.61, "fp16": 2.64, "dynamic": 2.13, "int8": 1.21}
    latencies = [
        latency_row(recipe, median * factor, kernels, threads)
        for recipe, median in medians.items()
        for kernels, threads, factor in settings
    ]
    return [*epoch_rows(4), *exports, *latencies]


def write_run(folder: Path, rows: list[Row], model: str = "efficientdet-digits") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(zoo.spec(model).to_toml())
    (folder / "model.keras").write_bytes(bytes(2_104_332))
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
