"""The rows of a part of the campaign, and the table over all parts."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from effkeras.support.files import make_folder, write_text

ROOT = Path(__file__).parents[2]
# How a case may end, and how it must not.
GOOD = ("passed", "read", "refused")
FAULTS = ("lost", "corrupted", "hung", "traceback", "outside")


class Out:
    """The rows of one part, each appended at once. Rows of the same commit are continued.

    Args:
        part: the part's name.
        folder: where the rows are.
        count: how many cases to run; 0 for all of the part.
    """

    def __init__(self, part: str, folder: Path, count: int = 0) -> None:
        self.part, self.count = part, count
        self.file = make_folder(folder) / f"{part}.jsonl"
        rows = read_rows(self.file)
        if not rows or rows[0].get("commit") != commit():
            rows = [{"part": part, "commit": commit()}]
        write_text(self.file, "".join(f"{json.dumps(row)}\n" for row in rows))  # without a line cut short
        self.ends: dict[str, str] = {row["case"]: row["end"] for row in rows[1:]}

    def has(self, case: str) -> bool:
        """Whether the case has been run."""
        return case in self.ends

    def add(self, case: str, end: str, why: str = "") -> None:
        """Appends the row of a case: how it ended, and for a fault what was seen."""
        assert end in (*GOOD, *FAULTS), end
        self.ends[case] = end
        row = {"case": case, "end": end, **({"why": why[:500]} if why else {})}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @property
    def is_clean(self) -> bool:
        """Whether no case ended in a fault."""
        return not set(self.ends.values()) & set(FAULTS)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a part; a last line that a kill cut short is left out."""
    rows = []
    for line in file.read_text("utf-8").splitlines() if file.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def commit() -> str:
    """The commit that is tested, with "-dirty" for one with changes."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def table(files: Iterable[Path]) -> str:
    """The table over parts in Markdown: how many cases, and how many of them ended in each fault."""
    lines = [
        f"| part | commit | cases | {' | '.join(FAULTS)} |",
        f"|---|---|---:|{'---:|' * len(FAULTS)}",
    ]
    total: Counter[str] = Counter()
    for file in sorted(files):
        head, *rows = read_rows(file)
        ends = Counter(row["end"] for row in rows)
        total += ends
        lines.append(_line(head["part"], head["commit"], ends))
    return "\n".join([*lines, _line("all", "", total), ""])


def _line(part: str, commit: str, ends: Counter[str]) -> str:
    faults = " | ".join(str(ends[fault]) for fault in FAULTS)
    return f"| {part} | {commit} | {ends.total():,} | {faults} |"


def faults_in(file: Path) -> list[str]:
    """The cases of a part that ended in a fault, a line each."""
    return [
        f"{row['case']}: {row['end']}: {row.get('why', '')}"
        for row in read_rows(file)[1:]
        if row["end"] in FAULTS
    ]
