"""The README's commands run, print what it shows, and its figures are the measured ones."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from effkeras import cli
from effkeras.support import results
from export.benchmarks import compression, digits

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


@pytest.mark.slow
def test_calls_print_what_the_readme_shows(checkout, monkeypatch, capfd):
    """One call in a process of its own, in which TensorFlow is loaded anew; the others spare its start."""
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("COLUMNS", "80")
    for call in console_calls():
        words = shlex.split(call.command)
        run = _in_a_process if words[:2] == ["effkeras", "predict"] else _here
        code = run(words)
        out, err = capfd.readouterr()
        assert code == 0, f"{call.command}: {err}"
        printed = {shape(line) for line in out.splitlines()}
        missing = [line for line in call.output if line.strip() != "..." and shape(line) not in printed]
        assert not missing, f"{call.command} printed:\n{out}"
        if run is _in_a_process:
            assert "WARNING" not in err, "TensorFlow's chatter reaches the terminal"


def _here(words: list[str]) -> int:
    if words[0] == "effkeras":
        return cli.main(words[1:])
    python, option, module, *rest = words
    assert (python, option) == ("python", "-m")
    return importlib.import_module(module).main(rest)


def _in_a_process(words: list[str]) -> int:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(words, env={**os.environ, "PATH": path}).returncode


@pytest.mark.slow
@pytest.mark.parametrize("block", python_blocks())
def test_python_prints_what_its_comments_say(block, checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == re.findall(r"# prints: (.*)", block)


@pytest.mark.parametrize("table", [digits.markdown, compression.markdown, compression.speed_markdown])
def test_tables_are_the_measured_ones(table):
    assert table(results.read(ROOT / "models" / "results.jsonl")) in README


def test_images_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()
