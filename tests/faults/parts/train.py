"""A training that is stopped: it goes on to the same weights, to the bit, with each validation's row once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from support.tiny import digits_folder, tiny_classifier

from faults.campaign import Out
from faults.commands import Command, change_label, try_commands

SUMMARY = "train, a classifier of 24 images"


def arguments(inputs: Path, out: Path) -> list[str]:
    words = [
        "train",
        str(inputs / "tiny.toml"),
        "--data",
        str(inputs),
        "--out",
        str(out),
        "--weights",
        "none",
    ]
    return [*words, "--epochs", "4", "--batch", "8"]


def same_training(one: Path, other: Path) -> None:
    """The same variables at the end, and the same row for a validation, once.

    How often it is validated depends on the time that it takes, and so may the best model.
    """
    with np.load(one / "checkpoint.npz") as first, np.load(other / "checkpoint.npz") as second:
        assert first.files == second.files
        for name in (name for name in first.files if name.startswith("v")):
            assert np.array_equal(first[name], second[name]), name
    rows = [validations(folder / "results.jsonl") for folder in (one, other)]
    for found in rows:
        assert list(found) == sorted(found), list(found)
        assert list(found)[-1] == 12, list(found)
    for step in rows[0].keys() & rows[1].keys():
        assert rows[0][step] == rows[1][step], step


def validations(file: Path) -> dict[int, Any]:
    """The metrics of each validation by its step; AssertionError if one is there twice."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "epoch"]
    assert len(steps) == len(set(steps)), steps
    return {row["step"]: row["metrics"] for row in rows if row["kind"] == "epoch"}


COMMAND = Command("train", arguments, same_training, change_label, ("--accept-data",))


def run(out: Out) -> None:
    """Trains with faults."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = digits_folder(Path(folder) / "classes", classify=True)
        (inputs / "tiny.toml").write_text(tiny_classifier().to_toml())
        try_commands(out, (COMMAND,), inputs, kills=200)
