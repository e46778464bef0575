"""Reports and evaluations that are stopped: pages, charts and rows are whole, and rows are there once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from faults.campaign import Out
from faults.commands import Command, try_commands
from faults.parts.quantize import inputs_in

SUMMARY = "export report, eval"


def report(inputs: Path, out: Path) -> list[str]:
    return ["export", "report", str(inputs / "run"), "--out", str(out), "--images", "2"]


def evaluation(inputs: Path, out: Path) -> list[str]:
    return ["eval", str(out), "--data", str(inputs / "classes")]


def with_run(inputs: Path, out: Path) -> None:
    shutil.copytree(inputs / "run", out)


def same_page(one: Path, other: Path) -> None:
    names = [sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) for root in (one, other)]
    assert names[0] == names[1]
    assert (other / "report.html").read_text().rstrip().endswith("</html>")


def same_evaluation(one: Path, other: Path) -> None:
    for name in ("evaluation.json", "best.png"):
        assert (one / "evaluation" / name).read_bytes() == (other / "evaluation" / name).read_bytes()
    last = [json.loads((folder / "results.jsonl").read_text().splitlines()[-1]) for folder in (one, other)]
    assert last[0]["metrics"] == last[1]["metrics"]


COMMANDS = (
    Command("export report", report, same_page),
    Command("eval", evaluation, same_evaluation, begin=with_run),
)


def run(out: Out) -> None:
    """Reports with faults."""
    with tempfile.TemporaryDirectory() as folder:
        try_commands(out, COMMANDS, inputs_in(Path(folder)), kills=200)
