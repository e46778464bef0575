"""What README.md and the pages of docs/ show: it runs, prints what they say, and links to what there is."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import ROOT, commands, console_calls, pages, prose, python_blocks, text_of

from effkeras import cli
from effkeras.support import results
from export.benchmarks import compression, digits

PAGES = [str(page) for page in pages()]
WITH_CALLS = [page for page in PAGES if console_calls(page)]
BLOCKS = [(page, block) for page in PAGES for block in python_blocks(page)]
OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*")


def shape(line: str) -> str:
    """A line without what differs between machines: figures, spaces, and the processor's name."""
    line = re.sub(r"^.*(?=, \d+ cores)", "CPU", line)
    line = re.sub("─+", "─", line)  # tables are as wide as their figures
    return re.sub(r"[-+]?\d[\d,.]*", "#", " ".join(line.split()))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder in which `models/` is what it is in a checkout."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "models").symlink_to(ROOT / "models")
    return folder


def test_the_readme_is_short():
    assert len(text_of("README.md").encode()) <= 6000


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CALLS)
def test_calls_print_what_the_page_shows(page, checkout, monkeypatch, capfd):
    """`effkeras predict` in a process of its own, which loads TensorFlow anew; the others spare its start."""
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("COLUMNS", "80")
    for call in console_calls(page):
        words = shlex.split(call.command)
        if words[1:3] == ["data", "digits"] and (checkout / words[3]).exists():
            continue  # another page drew them
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
@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_python_prints_what_its_comments_say(page, block, checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    exec(compile(block, page, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == re.findall(r"# prints: (.*)", block)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_have_the_options_that_the_page_gives_them(page, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    for command in commands(page):
        words = command.split()
        module = words[2] if words[0] == "python" else _module_of(words[1:])
        with pytest.raises(SystemExit):
            importlib.import_module(module).main(["--help"])
        known = set(OPTION.findall(capsys.readouterr().out.replace("[", " ").replace("]", " ")))
        assert set(OPTION.findall(command)) <= known, command


def _module_of(words: list[str]) -> str:
    verbs = cli.commands()
    name = " ".join(words[:2])
    return verbs[name if name in verbs else words[0]].module


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, heading = target.partition("#")
        if re.match(r"\w+:", path):
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.is_file(), target
        assert not heading or heading in _anchors(file), target


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


def test_every_page_is_in_the_navigation():
    site = text_of("mkdocs.yml")
    assert [page for page in PAGES if page.startswith("docs/") and page[5:] not in site] == []


@pytest.mark.parametrize("table", [digits.markdown, compression.markdown, compression.speed_markdown])
def test_tables_are_the_measured_ones(table):
    assert table(results.read(ROOT / "models" / "results.jsonl")) in text_of("docs/compression.md")
