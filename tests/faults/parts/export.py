"""Exports that are stopped: an artifact or a SavedModel is the old one or the new one, with its record."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from faults.campaign import Out
from faults.commands import Command, prepare, try_commands
from faults.parts.quantize import inputs_in

SUMMARY = "export tflite and export savedmodel over older ones"


def tflite(inputs: Path, out: Path) -> list[str]:
    words = ["export", "tflite", str(out / "run"), "--data", str(inputs / "classes"), "--force"]
    return [*words, "--recipe", "int8", "--samples", "8", "--out", str(out / "a.tflite")]


def savedmodel(inputs: Path, out: Path) -> list[str]:
    return ["export", "savedmodel", str(out / "run"), "--out", str(out / "saved")]


def with_older(inputs: Path, out: Path) -> None:
    """A run, whose rows both commands add to, and earlier exports."""
    shutil.copytree(inputs / "older", out)


def same_tflite(one: Path, other: Path) -> None:
    assert (one / "a.tflite").read_bytes() == (other / "a.tflite").read_bytes()
    first, second = (json.loads((folder / "a.json").read_text()) for folder in (one, other))
    assert first["recipe"] == second["recipe"]


def same_saved(one: Path, other: Path) -> None:
    names = [sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) for root in (one, other)]
    assert names[0] == names[1]


COMMANDS = (
    Command("export tflite", tflite, same_tflite, begin=with_older),
    Command("export savedmodel", savedmodel, same_saved, begin=with_older),
)


def run(out: Out) -> None:
    """Exports with faults."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = inputs_in(Path(folder))
        shutil.copytree(inputs / "run", inputs / "older" / "run")
        for command in COMMANDS:
            prepare(command.arguments(inputs, inputs / "older"), inputs)
        try_commands(out, COMMANDS, inputs, kills=200)
