"""`effkeras data digits OUT`: writes scikit-learn's labelled digit images as a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from effkeras.data.digits import DigitsOptions, write_digits
from effkeras.support.console import run_command, say
from effkeras.support.options import Verb, above_zero, parser

VERB = Verb("data digits", "write a data set that ships: handwritten digits")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a data set."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    options = DigitsOptions(
        size=chosen.size,
        train=chosen.train,
        val=chosen.val,
        test=chosen.test,
        max_digits=chosen.max_digits,
        masks=chosen.masks,
        seed=chosen.seed,
        classify=chosen.classify,
    )
    write_digits(chosen.out, options)
    say(f"{chosen.out}: {options.train} train, {options.val} val and {options.test} test images")


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name, "Writes real handwritten digits on textured backgrounds, as COCO or class folders."
    )
    options.add_argument("out", type=Path, metavar="DST", help="the folder to write")
    defaults = DigitsOptions()
    options.add_argument("--classify", action="store_true", help="a folder per class, one digit an image")
    options.add_argument("--masks", choices=["none", "polygon", "rle"], default="none", help="digit masks")
    options.add_argument("--size", type=int, default=0, help="pixels a side (default: 128; 32 to classify)")
    for split in ("train", "val", "test"):
        count = getattr(defaults, split)
        options.add_argument(
            f"--{split}", type=above_zero, default=count, metavar="N", help=f"images (default: {count})"
        )
    options.add_argument("--max-digits", type=above_zero, default=8, help="digits an image (default: 8)")
    options.add_argument("--seed", type=int, default=0, help="another seed, other images (default: 0)")
    return options
