"""`effkeras data convert SRC DST --to FORMAT`: writes a data set in another format."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from effkeras.data.formats import writable
from effkeras.data.records import DetectionData, LabelledData, ReadOptions
from effkeras.data.rewriting import check_target, read_to_rewrite, write_whole
from effkeras.support.console import hint, result, run_command, table
from effkeras.support.options import Verb, add_json, add_reading, explained, parser

VERB = Verb("data convert", "write a data set in another format")


def main(argv: Sequence[str] | None = None) -> int:
    """Converts a data set."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    check_target(chosen.dst, chosen.src)
    splits = read_to_rewrite(chosen.src, read_options(chosen))
    write_whole(chosen.dst, splits, chosen.to)
    print_written(chosen.dst, splits)


def _parser() -> argparse.ArgumentParser:
    known = writable()
    options = parser(VERB.name, "Writes all splits of a data set, images included, in another format.")
    options.epilog = "\n".join(["formats:", *(explained(name, one.title) for name, one in known.items())])
    options.add_argument("src", type=Path, metavar="SRC", help="the data set: a folder or file of any format")
    options.add_argument("dst", type=Path, metavar="DST", help="the folder to write")
    options.add_argument("--to", required=True, choices=list(known), metavar="FORMAT", help="the new format")
    add_reading(options)
    add_json(options)
    return options


def read_options(chosen: argparse.Namespace) -> ReadOptions:
    """How to read by these options: with all masks."""
    return ReadOptions(skip_bad=chosen.skip_bad, masks=True, one_based=chosen.one_based)


def print_written(folder: Path, splits: Sequence[LabelledData]) -> None:
    """Prints what was written for each split, and the next command."""
    rows = [[data.split, *_counts(data)] for data in splits if data.records]
    shown = [place for place in range(5) if place < 3 or any(row[place] not in "0-" for row in rows)]
    columns = ["split", "images", "boxes", "left out", "clipped"]
    table(f"written to {folder}", [columns[place] for place in shown], [[r[p] for p in shown] for r in rows])
    result({"folder": str(folder), "splits": {data.split: _record(data) for data in splits if data.records}})
    hint_to_train(folder, splits)


def hint_to_train(data: Path, splits: Sequence[LabelledData]) -> None:
    """Prints the command that trains a usual model on a data set."""
    model = "efficientdet-lite0" if isinstance(splits[0], DetectionData) else "efficientnet-lite0"
    out = f"runs/{data.resolve().name}"
    hint(shlex.join(["effkeras", "train", model, "--data", str(data), "--out", out]))


def _record(data: LabelledData) -> dict[str, int]:
    left = {"images": len(data.records), "skipped": len(data.skipped)}
    if not isinstance(data, DetectionData):
        return left
    return {**left, "boxes": sum(len(record.boxes) for record in data.records), "clipped": len(data.clipped)}


def _counts(data: LabelledData) -> list[str]:
    if not isinstance(data, DetectionData):
        return [f"{len(data.records):,}", "-", f"{len(data.skipped):,}", "-"]
    boxes = sum(len(record.boxes) for record in data.records)
    return [f"{count:,}" for count in (len(data.records), boxes, len(data.skipped), len(data.clipped))]
