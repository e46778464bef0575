"""Data sets that are written: digits, other formats, other splits."""

from __future__ import annotations

import tempfile
from pathlib import Path

from support.tiny import digits_folder

from faults.campaign import Out
from faults.commands import Command, same_files, try_commands

SUMMARY = "data digits, convert and split"


def digits(inputs: Path, out: Path) -> list[str]:
    return ["data", "digits", str(out), "--train", "6", "--val", "2", "--test", "2", "--size", "48"]


def converted(form: str):
    return lambda inputs, out: ["data", "convert", str(inputs), str(out), "--to", form]


def split(inputs: Path, out: Path) -> list[str]:
    return ["data", "split", str(inputs), str(out)]


LIGHT = ("sklearn.datasets", "faults.child", "effkeras.data.rewriting", "effkeras.data.digits")
COMMANDS = (
    Command("data digits", digits, same_files, preload=LIGHT),
    Command("data convert voc", converted("voc"), same_files, repeats=False, preload=LIGHT),
    Command("data convert tfrecord", converted("tfrecord"), same_files, repeats=False, preload=LIGHT),
    Command("data split", split, same_files, repeats=False, preload=LIGHT),
)


def run(out: Out) -> None:
    """Writes data sets with faults."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = digits_folder(Path(folder) / "digits", size=64, max_digits=3)
        try_commands(out, COMMANDS, inputs, kills=200)
