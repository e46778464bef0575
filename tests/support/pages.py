"""The pages of docs/ and README.md, as the tests that run what they show read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Call(NamedTuple):
    """A `$ command` line of a console block, with the lines that are shown below it."""

    command: str
    output: list[str]


def pages() -> list[Path]:
    """README.md and every page of docs/, with paths relative to the checkout."""
    return [Path("README.md"), *(path.relative_to(ROOT) for path in sorted(DOCS.rglob("*.md")))]


def text_of(page: Path | str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def complete_file(page: str) -> str:
    """The one file that a page of docs/extend/ shows: the code block that has a title."""
    (code,) = re.findall(r"```python title=.*?\n(.*?)```", text_of(f"docs/extend/{page}"), re.DOTALL)
    return code


def console_calls(page: Path | str) -> list[Call]:
    calls: list[Call] = []
    for block in re.findall(r"```console\n(.*?)```", text_of(page), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                calls.append(Call(line[2:], []))
            elif line.strip():
                calls[-1].output.append(line)
    return calls


def python_blocks(page: Path | str) -> list[str]:
    """The blocks that run; those with a title are files, and `py` marks code for elsewhere."""
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


def prose(page: Path | str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)


def commands(page: Path | str) -> list[str]:
    """The commands of indented blocks, which are shown without their output."""
    lines = re.findall(r"^ {4}((?:effkeras|python -m) .*)$", prose(page), re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for line in lines]
