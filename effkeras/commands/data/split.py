"""`effkeras data split SRC DST --val 0.15 --test 0.15`: splits a data set anew."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from effkeras.commands.data.convert import print_written, read_options
from effkeras.data.all_splits import merged
from effkeras.data.formats import writable
from effkeras.data.records import LabelledData
from effkeras.data.rewriting import (
    check_target,
    class_counts,
    divide,
    format_to_write,
    read_to_rewrite,
    without_broken,
    write_whole,
)
from effkeras.data.scanning import scan
from effkeras.data.splits import TEST, TRAIN, VALIDATION
from effkeras.support.console import note, run_command, table, warn
from effkeras.support.errors import EffkerasError, printable
from effkeras.support.options import Verb, add_json, add_reading, parser

VERB = Verb("data split", "split a data set anew, stratified over its classes")
_MOST_CLASSES = 40  # rows of the printed table; the rarest classes


def main(argv: Sequence[str] | None = None) -> int:
    """Splits a data set."""
    return run_command(lambda: _run(argv), resumes=True)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    shares = _shares(chosen.val, chosen.test)
    check_target(chosen.dst, chosen.src)
    splits = read_to_rewrite(chosen.src, read_options(chosen))
    to = chosen.to or format_to_write(chosen.src, splits)
    whole = merged(splits, TRAIN)
    scans = scan(chosen.src, [record.path for record in whole.records])
    whole = without_broken(whole, scans, skip_bad=chosen.skip_bad)
    division = divide(whole, shares, scans, chosen.seed)
    if division.copies:
        warn(f"{division.copies} images are in several splits of {chosen.src}; each is used once")
    if division.groups:
        note(
            f"images that look alike stay on one side: {division.groups} groups of them, the largest of "
            f"{division.largest} images"
        )
    write_whole(chosen.dst, division.splits, to)
    _print_classes(division.splits)
    print_written(chosen.dst, division.splits)


def _shares(val: float, test: float) -> dict[str, float]:
    """The share of each split; splits of share 0 are left out."""
    for name, share in (("--val", val), ("--test", test)):
        if not 0 <= share < 1:
            raise EffkerasError(f"{name} must be at least 0 and below 1, not {share}")
    if not 0 < val + test < 1:
        raise EffkerasError(f"--val and --test together must be above 0 and below 1, not {val + test:g}")
    shares = {TRAIN: 1 - val - test, VALIDATION: val, TEST: test}
    return {name: share for name, share in shares.items() if share}


def _print_classes(splits: Sequence[LabelledData]) -> None:
    """Prints the boxes (or images) of each class in each split; of many classes the rarest."""
    counts = {data.split: class_counts(data.records, len(data.labels)).sum(axis=0) for data in splits}
    total = sum(counts.values())
    labels = splits[0].labels
    rarest = sorted(range(len(labels)), key=lambda label: total[label])[:_MOST_CLASSES]
    rows = [
        [printable(labels[label], 30), *(f"{counts[split][label]:,}" for split in counts)]
        for label in sorted(rarest)
    ]
    is_all = len(rarest) == len(labels)
    table("" if is_all else f"the {len(rarest)} rarest of {len(labels)} classes", ["class", *counts], rows)


def _parser() -> argparse.ArgumentParser:
    known = writable()
    options = parser(
        VERB.name,
        "Merges all splits of a data set and splits it anew: each split gets its share of every class, and "
        "images that look alike stay on one side.",
    )
    options.add_argument("src", type=Path, metavar="SRC", help="the data set: a folder or file of any format")
    options.add_argument("dst", type=Path, metavar="DST", help="the folder to write")
    options.add_argument("--val", type=float, default=0.15, metavar="SHARE", help="default: 0.15")
    options.add_argument("--test", type=float, default=0.15, metavar="SHARE", help="default: 0.15")
    options.add_argument("--seed", type=int, default=0, help="another seed, other splits (default: 0)")
    options.add_argument(
        "--to", choices=list(known), metavar="FORMAT", help=f"{', '.join(known)} (default: the source's)"
    )
    add_reading(options)
    add_json(options)
    return options
