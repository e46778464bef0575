"""A search that is stopped: it goes on with the same candidates, each with its row once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from support.tiny import digits_folder

from faults.campaign import Out
from faults.commands import LOADED, Command, change_label, same_rows, try_commands

SUMMARY = "search, by the number of parameters"


def arguments(inputs: Path, out: Path) -> list[str]:
    words = ["search", "digits-tiny", "--data", str(inputs), "--out", str(out), "--trials", "8"]
    return [*words, "--evaluation", "proxy:parameters", "--strategy", "evolution"]


def same_search(one: Path, other: Path) -> None:
    facts = ("trial", "tell", "state", "genome", "accuracy")
    same_rows(one / "results.jsonl", other / "results.jsonl", *facts)
    assert (one / "best.toml").read_text() == (other / "best.toml").read_text()


# The store is loaded before, so that its transactions are write points.
STORE = (*LOADED, "optuna", "effkeras.search.trials.store", "effkeras.search.run")
COMMAND = Command("search", arguments, same_search, change_label, preload=STORE)


def run(out: Out) -> None:
    """Searches with faults."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = digits_folder(Path(folder) / "classes", classify=True)
        try_commands(out, (COMMAND,), inputs, kills=200)
