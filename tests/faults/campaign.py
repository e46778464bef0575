"""The rows of a part of the campaign, and the table over all parts."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from effkeras.support.console import track
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
        minutes: how long to begin cases; what is left is for the next time.
        jobs: how many cases to run at once.
    """

    def __init__(
        self, part: str, folder: Path, count: int = 0, minutes: float = math.inf, jobs: int = 1
    ) -> None:
        self.part, self.count, self.jobs = part, count, jobs
        self.until = time.monotonic() + 60 * minutes
        self.planned = 0  # all cases of the part, as far as they are known
        self.file = make_folder(folder) / f"{part}.jsonl"
        rows = read_rows(self.file)
        if not rows or rows[0].get("commit") != commit():
            rows = [{"part": part, "commit": commit()}]
        self.ends: dict[str, str] = {row["case"]: row["end"] for row in rows[1:]}
        write_text(self.file, _lines(rows))  # without a line cut short

    def has(self, case: str) -> bool:
        """Whether the case has been run."""
        return case in self.ends

    def add(self, case: str, end: str, why: str = "") -> None:
        """Appends the row of a case: how it ended, and for a fault what was seen."""
        assert end in (*GOOD, *FAULTS), end
        self.ends[case] = end
        row = {"case": case, "end": end, **({"why": why[:500]} if why else {})}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(_lines([row]))

    def run(
        self,
        what: str,
        try_case: Callable[..., tuple[str, str]],
        cases: Mapping[str, tuple[Any, ...]],
        until: float = math.inf,
    ) -> None:
        """Adds the rows of cases, by name with the arguments of `try_case`, until the time is over.

        `until` is when no further case of these begins, in seconds of `time.monotonic`.
        """
        with futures.ThreadPoolExecutor(self.jobs) as pool:
            doing = {
                pool.submit(self._in_time, until, try_case, given): name for name, given in cases.items()
            }
            try:
                for done in track(futures.as_completed(doing), what, total=len(doing)):
                    if (ended := done.result()) is not None:
                        self.add(doing[done], *ended)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _in_time(
        self, until: float, try_case: Callable[..., tuple[str, str]], given: tuple[Any, ...]
    ) -> tuple[str, str] | None:
        return None if self.is_over or time.monotonic() > until else try_case(*given)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until

    def end(self) -> None:
        """Notes how many cases the part has, and whether all of them ran."""
        head, *rows = read_rows(self.file)
        is_whole = not self.count and len(self.ends) >= self.planned and not self.is_over
        write_text(self.file, _lines([{**head, "of": self.planned, "whole": is_whole}, *rows]))

    @property
    def is_clean(self) -> bool:
        """Whether no case ended in a fault."""
        return not set(self.ends.values()) & set(FAULTS)


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


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


def table(files: Iterable[Path], names: Iterable[str] = ()) -> str:
    """The table over parts in Markdown: how many cases, and how many of them ended in each fault.

    `names` are of all parts; those without a file are listed too.
    """
    lines = [
        f"| part | commit | run | cases | {' | '.join(FAULTS)} |",
        f"|---|---|---|---:|{'---:|' * len(FAULTS)}",
    ]
    total: Counter[str] = Counter()
    found = {file.stem: file for file in files}
    for name in sorted({*found, *names}):
        head, *rows = read_rows(found[name]) if name in found else [{}]
        ends = Counter(row["end"] for row in rows)
        total += ends
        lines.append(_line(name, head.get("commit", ""), _extent(head, len(rows)), ends))
    return "\n".join([*lines, _line("all", "", "", total), ""])


def _extent(head: Mapping[str, Any], cases: int) -> str:
    """How much of a part ran."""
    if head.get("whole"):
        return "whole"
    known = f", of {head['of']:,}" if head.get("of", 0) > cases else ""
    return f"in part{known}" if cases else "not yet"


def _line(part: str, commit: str, how: str, ends: Counter[str]) -> str:
    faults = " | ".join(str(ends[fault]) for fault in FAULTS)
    return f"| {part} | {commit} | {how} | {ends.total():,} | {faults} |"


def faults_in(file: Path) -> list[str]:
    """The cases of a part that ended in a fault, a line each."""
    return [
        f"{row['case']}: {row['end']}: {row.get('why', '')}"
        for row in read_rows(file)[1:]
        if row["end"] in FAULTS
    ]
