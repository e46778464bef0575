"""A training that is stopped: it goes on to the same weights, to the bit, with each validation's row once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from support.tiny import digits_folder, tiny_classifier

from faults.campaign import Out
from faults.commands import Command, change_label, same_rows, try_commands

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
    first, second = (weights_of(folder / "model.keras") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name
    same_rows(one / "results.jsonl", other / "results.jsonl", "kind", "epoch", "step", "metrics")


def weights_of(file: Path) -> dict[str, np.ndarray]:
    """All arrays in the weights of a .keras file, by path."""
    import io
    import zipfile

    import h5py

    found = {}
    with zipfile.ZipFile(file) as content:
        weights = io.BytesIO(content.read("model.weights.h5"))
    with h5py.File(weights) as stored:
        stored.visititems(
            lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return found


COMMAND = Command("train", arguments, same_training, change_label, ("--accept-data",))


def run(out: Out) -> None:
    """Trains with faults."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = digits_folder(Path(folder) / "classes", classify=True)
        (inputs / "tiny.toml").write_text(tiny_classifier().to_toml())
        try_commands(out, (COMMAND,), inputs, kills=200)
