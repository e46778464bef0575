"""What reads the files that commands keep for the next one: rows, measurements, steps, caches."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from faults.damage import in_json, in_zip
from faults.reader import Reader, with_text


def _make_run(name: str) -> Callable[[Path], Path]:
    """A file of a run with rows of every kind, and with the errors of layers beside its artifact."""

    def make(folder: Path) -> Path:
        from support import report_runs as rows

        compressed = {
            **rows.export_row("prune50-int8", 300_000, 0.8, lost_classes=["3"], interval=[0.01, 0.02]),
            **{"kind": "compression", "recipe": {"name": "prune50-int8"}, "float_classes": {"3": 0.9}},
            **{
                "beside": [{"artifact": "float32", "bytes": 2_000_000}],
                "artifact_classes": {"3": {"AP50": 1}},
            },
        }
        run = rows.write_run(
            folder / "run", [*rows.full_rows(), compressed, rows.eval_row("int8.tflite", 0.8)]
        )
        (run / "artifacts").mkdir()
        layers = [{"layer": "a", "op": "CONV_2D", "error": 0.1}, {"layer": "b", "op": "ADD", "error": 2}]
        (run / "artifacts" / "int8.json").write_text(json.dumps({"layers": layers}))
        (run / "artifacts" / "int8.tflite").write_bytes(b"none")
        (run / "data.toml").write_text('data = "here"\n[splits.train]\nimages = 24\n')
        return run / name

    return make


def _read_run(path: Path) -> None:
    """Reads a run as a report does, and writes the cards of its artifacts."""
    from quantize.runs.cards import card_of
    from quantize.runs.reading import read_run

    run = read_run(next(one for one in path.parents if one.name == "run"), 2)
    for one in run.artifacts:
        card_of(run, one)


def _make_measured(folder: Path) -> Path:
    from effkeras.inference.compare import Measured
    from effkeras.inference.task import TASKS

    arrays = {"right": np.array([1.0, 0.0]), "labels": np.array([0, 1]), "top": np.zeros((2, 1), np.uint8)}
    outcomes = TASKS.entries()["classification"].outcomes(arrays)
    Measured({"top1": 0.5, "top5": 0.9}, outcomes).save(folder / "measured.npz")
    return folder / "measured.npz"


def _read_measured(path: Path) -> None:
    from quantize.accuracy import _known

    _known(path, ("top1",))


def _make_step(folder: Path) -> Path:
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(folder / "model.keras")
    layer = {"name": "a", "kind": "Dense", "what": "done", "why": "", "error": 0.1}
    report = {"step": "prune", "layers": [layer], "error_is": "norm", "figures": {"sparsity": 0.5}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder / "report.json"


def _read_step(path: Path) -> None:
    from quantize.work_folder import _read

    _read(path.with_name("model.keras"), path, "the step begins again")


def _make_cache(folder: Path) -> Path:
    from quantize.precision.measurements import MeasurementCache

    MeasurementCache(folder / "sensitivity.json", "key")["a"] = {"top1": 0.5}
    return folder / "sensitivity.json"


def _read_cache(path: Path) -> None:
    from quantize.precision.measurements import MeasurementCache

    cache = MeasurementCache(path, "key")
    assert "b" not in cache


def _make_scan(folder: Path) -> Path:
    """What `data check` keeps of images that it has decoded, as it lies in the cache."""
    from PIL import Image

    from effkeras.data import scanning

    Image.new("RGB", (8, 6)).save(folder / "a.png")
    path = folder / "scan.jsonl"
    (one,) = scanning._decoded([folder / "a.png"])
    path.write_text(f"{scanning._line(one[0], (1, 2), one[1])}\n")
    return path


def _read_scan(path: Path) -> None:
    from effkeras.data.scanning import _read

    _read(path)


def _read_hosts(path: Path) -> None:
    from effkeras.training.launching.hosts import read_hosts

    read_hosts(path)


def _read_keras(path: Path) -> None:
    from effkeras.support.backend import _configured

    with mock.patch.dict(os.environ, {"KERAS_HOME": str(path.parent)}):
        _configured()


OF_WORK: dict[str, Reader] = {
    "keras.json": Reader(
        with_text("keras.json", '{"backend": "tensorflow", "epsilon": 1e-07}'), _read_keras, [in_json]
    ),
    "hosts": Reader(with_text("hosts.txt", "# ours\nhere:5000\n10.0.0.2\n"), _read_hosts),
    "work: layers": Reader(_make_run("artifacts/int8.json"), _read_run, [in_json]),
    "work: measured": Reader(_make_measured, _read_measured, [in_zip]),
    "work: rows": Reader(_make_run("results.jsonl"), _read_run, [in_json]),
    "work: rows' data": Reader(_make_run("data.toml"), _read_run),
    "work: scanned images": Reader(_make_scan, _read_scan, [in_json]),
    "work: sensitivity": Reader(_make_cache, _read_cache, [in_json]),
    "work: step": Reader(_make_step, _read_step, [in_json]),
}
