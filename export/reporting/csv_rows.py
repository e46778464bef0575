"""The figures of a report as CSV, unrounded: one line for each file, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from quantize.runs.records import Artifact, RunData
from quantize.runs.texts import setting_name


def csv_of(runs: Sequence[RunData]) -> str:
    """A line for the Keras model and for each artifact of the runs; what was not measured is empty."""
    rows = [_row(run, one) for run in runs for one in run.files]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _row(run: RunData, one: Artifact) -> dict[str, Any]:
    low, high = one.interval or (None, None)
    row: dict[str, Any] = {
        "run": run.name,
        "file": one.file,
        "recipe": one.recipe,
        "for": one.consumer,
        "bytes": one.size,
        "multiply_adds": one.macs,
        "split": one.accuracy.split if one.accuracy else None,
        "images": one.accuracy.images if one.accuracy else None,
        "drop": one.drop,
        "drop_low": low,
        "drop_high": high,
        "total_ops": one.delegation.total_ops if one.delegation else None,
        "xnnpack_ops": one.delegation.delegated_ops if one.delegation else None,
        "partitions": one.delegation.partitions if one.delegation else None,
        "on_size_front": one.file in run.best_by_size(),
    }
    row |= dict(one.accuracy.metrics) if one.accuracy else {}
    row |= {f"class {label}": value for label, value in one.by_class.items()}
    row |= {f"median ms, {setting_name(each.setting)}": each.latency.median_ms for each in one.measured}
    return row
