"""A compression that is stopped: it goes on to the same artifact."""

from __future__ import annotations

import tempfile
from pathlib import Path

from support.tiny import digits_folder, tiny_classifier

from faults.campaign import Out
from faults.commands import Command, change_label, prepare, try_commands

SUMMARY = "quantize, pruning and int8 with a training between"


def arguments(inputs: Path, out: Path) -> list[str]:
    words = ["quantize", str(inputs / "run"), "--data", str(inputs / "classes"), "--out", str(out), "--force"]
    return [*words, "--recipe", "prune50-int8", "--epochs", "2", "--batch", "8", "--samples", "8"]


def same_artifact(one: Path, other: Path) -> None:
    first, second = (sorted(folder.rglob("*.tflite")) for folder in (one, other))
    assert [file.name for file in first] == [file.name for file in second]
    assert first[0].read_bytes() == second[0].read_bytes()
    for file in first:
        assert (file.with_suffix(".json")).is_file()
    for name in ("model.keras", "model.toml", "labels.txt", "report.json", "results.jsonl"):
        assert (other / name).is_file(), name


def inputs_in(folder: Path) -> Path:
    """A data set and a trained run."""
    classes = digits_folder(folder / "classes", classify=True)
    (folder / "tiny.toml").write_text(tiny_classifier().to_toml())
    words = ["train", str(folder / "tiny.toml"), "--data", str(classes), "--out", str(folder / "run")]
    prepare([*words, "--weights", "none", "--epochs", "4", "--batch", "8"], folder)
    return folder


COMMAND = Command(
    "quantize", arguments, same_artifact, lambda inputs: change_label(inputs / "classes"), accept=()
)


def run(out: Out) -> None:
    """Compresses with faults."""
    with tempfile.TemporaryDirectory() as folder:
        try_commands(out, (COMMAND,), inputs_in(Path(folder)), kills=200)
