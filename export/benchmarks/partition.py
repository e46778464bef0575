"""`python -m export.benchmarks.partition`: operators that XNNPACK runs of EfficientNets and EfficientDets.

Every model is built at its own input size and converted to float32 and int8. Weights are random, but batch
norms get the statistics of their inputs, as in a trained network: otherwise activations of deep networks
grow far beyond those of any trained network. For the Lite detectors, the Edge TPU pre-flight also predicts
which operators map. Each model runs in its own process, which frees its memory at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.support import results
from effkeras.support.console import quiet, run_command, table, track
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.options import parser

if TYPE_CHECKING:
    import keras

    from export.preflight import Preflight

FAMILIES = ("efficientnet", "efficientdet")
LITE_DETECTORS = "efficientdet-lite"
RECIPES = ("float32", "int8")
COLUMNS = ("model", "input", "float32", "int8", "Edge TPU")
FAILED = 1
# Larger models are calibrated at this size: the operators are the same, and no level is 1 x 1.
LARGEST = 512


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when a model could not be converted."""
    return run_command(lambda: _run(argv))


def models() -> list[str]:
    """The names of all EfficientNets and EfficientDets in the zoo."""
    from effkeras.definitions import zoo

    return [name for name in zoo.list_models() if name.startswith(FAMILIES)]


@dataclass(frozen=True, eq=False, slots=True)
class Built:
    """A model to measure, and the same network at a smaller size if its ranges are measured there."""

    model: keras.Model
    smaller: keras.Model | None = None


def built(name: str) -> Built:
    """Builds a zoo model at its own size. Raises EffkerasError for an unknown name."""
    with quiet():
        import effkeras
        from export.benchmarks.random_models import draw_statistics, measure_statistics

        model = effkeras.build(name)
        smaller = None
        if max(model.inputs[0].shape[1:3]) > LARGEST:
            smaller = effkeras.build(name, input_shape=(LARGEST, LARGEST))
        measured = smaller or model
        draw_statistics(measured)
        measure_statistics(measured)
        if smaller is not None:
            model.set_weights(smaller.get_weights())
    return Built(model, smaller)


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """A model's input size and artifacts; `edge_tpu` is the pre-flight's (Lite detectors only), else None."""

    size: tuple[int, int]
    float32: bytes
    int8: bytes
    edge_tpu: bytes | None = None


def made_of(name: str) -> Made:
    """Builds and converts a zoo model at its own size."""
    with quiet():
        from export.benchmarks.random_models import artifacts_on_random_images

    one = built(name)
    height, width = one.model.inputs[0].shape[1:3]
    plain = artifacts_on_random_images(one.model, RECIPES, smaller=one.smaller)
    edge_tpu = None
    if name.startswith(LITE_DETECTORS):
        edge_tpu = artifacts_on_random_images(one.model, ("int8",), "uint8", smaller=one.smaller)["int8"]
    return Made((height, width), plain["float32"], plain["int8"], edge_tpu)


def row_of(name: str, made: Made) -> results.Row:
    """The delegation of a model's artifacts as a plain record of kind "partition".

    `float32` and `int8` hold the size in bytes, the number of operators, how many of them XNNPACK runs, and
    its partitions. `edgetpu` is the pre-flight's verdict on the network without NMS.
    """
    row = {
        "kind": "partition",
        "model": name,
        "input_size": list(made.size),
        "float32": _delegated(made.float32),
        "int8": _delegated(made.int8),
    }
    return row if made.edge_tpu is None else {**row, "edgetpu": _verdict(_preflight(made.edge_tpu))}


def _delegated(flatbuffer: bytes) -> dict[str, int]:
    from effkeras.litert.runner import delegation, make_interpreter

    found = delegation(make_interpreter(flatbuffer), flatbuffer)
    return {"bytes": len(flatbuffer), **asdict(found)}


def _preflight(flatbuffer: bytes) -> Preflight:
    from effkeras.litert.edge_tpu import for_edge_tpu
    from export.preflight import check_for

    return check_for(for_edge_tpu(flatbuffer), "edgetpu")


def _verdict(found: Preflight) -> dict[str, Any]:
    row = found.to_row()
    del row["ops"]
    doubts = Counter(f"{one.op}: {one.why}" for one in found.doubts)
    return {**row, "doubts": [f"{count} {doubt}" for doubt, count in doubts.items()]}


def _run(argv: Sequence[str] | None) -> int:
    chosen = _options(argv)
    if chosen.row is not None:
        print(json.dumps(row_of(chosen.row, made_of(chosen.row))))
        return 0
    names = chosen.only or models()
    for name in names:
        _check(name)
    rows, failures = [], []
    for name in track(names, "models"):
        try:
            rows.append(results.stamped(_measured(name)))
        except EffkerasError as error:
            failures.append(f"{name}: {error}")
            continue
        results.append(chosen.out, rows[-1:])
    table("operators that XNNPACK takes, of all, and its partitions", COLUMNS, map(cells, rows))
    for failure in failures:
        print(f"failed: {failure}")
    return FAILED if failures else 0


def _check(name: str) -> None:
    from effkeras.definitions import zoo

    known = zoo.list_models()
    if name not in known:
        raise EffkerasError(f"there is no model {name!r}; {did_you_mean(name, known)}")


def _measured(name: str) -> results.Row:
    """The row of a model, measured in a separate process. Raises EffkerasError when that fails."""
    command = [sys.executable, "-m", "export.benchmarks.partition", "--row", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = done.stderr.strip().splitlines()
    last = lines[-1] if lines else "the process was killed, possibly because memory ran out"
    raise EffkerasError(last.removeprefix("error: "))


def cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of one row of the printed table."""
    device = row.get("edgetpu")
    return [
        row["model"],
        " x ".join(map(str, row["input_size"])),
        *(_share(row[recipe]) for recipe in RECIPES),
        "" if device is None else _edge_tpu_cell(device),
    ]


def _share(taken: Mapping[str, int]) -> str:
    return f"{taken['delegated_ops']} / {taken['total_ops']}, {taken['partitions']}"


def _edge_tpu_cell(device: Mapping[str, Any]) -> str:
    mapped = f"{device['on_device']} / {device['operators']}"
    return f"{mapped}, {device['may_not_map']} in doubt" if device["may_not_map"] else mapped


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("partition-bench", "Counts what XNNPACK and an Edge TPU take of the zoo's networks.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument("--only", nargs="+", metavar="MODEL", help="these models only")
    options.add_argument("--row", metavar="MODEL", help="print a model's row, measured in this process")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
