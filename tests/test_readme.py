"""The README's commands run, print what it shows, and its figures are the measured ones."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from effkeras import results
from export import compression_bench, digits_bench

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Call(NamedTuple):
    command: str
    output: list[str]


def console_calls() -> list[Call]:
    """The `$ command` lines of all console blocks, each with the lines that follow it."""
    calls: list[Call] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                calls.append(Call(line[2:], []))
            elif line.strip():
                calls[-1].output.append(line)
    return calls


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def shape(line: str) -> str:
    """A line without what differs between machines: figures, spaces, and the processor's name."""
    line = re.sub(r"^.*(?=, \d+ cores)", "CPU", line)
    line = re.sub("─+", "─", line)  # tables are as wide as their figures
    return re.sub(r"[-+]?\d[\d,.]*", "#", " ".join(line.split()))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder in which `models/` is what it is in a checkout."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "models").symlink_to(ROOT / "models")
    return folder


def test_there_are_five_calls():
    assert len(console_calls()) + len(python_blocks()) >= 5


def test_calls_print_what_the_readme_shows(checkout):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "80",
    }
    for call in console_calls():
        words = shlex.split(call.command)
        words[0] = {"python": sys.executable}.get(words[0], words[0])
        done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{call.command}: {done.stderr}"
        assert "WARNING" not in done.stderr, "TensorFlow's chatter reaches the terminal"
        printed = {shape(line) for line in done.stdout.splitlines()}
        missing = [line for line in call.output if line.strip() != "..." and shape(line) not in printed]
        assert not missing, f"{call.command} printed:\n{done.stdout}"


@pytest.mark.parametrize("block", python_blocks())
def test_python_prints_what_its_comments_say(block, checkout):
    done = subprocess.run([sys.executable, "-c", block], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"# prints: (.*)", block)


@pytest.mark.parametrize(
    "table", [digits_bench.markdown, compression_bench.markdown, compression_bench.speed_markdown]
)
def test_tables_are_the_measured_ones(table):
    assert table(results.read(ROOT / "models" / "results.jsonl")) in README


def test_pictures_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()
