"""`make nightly PART=name`: what only full size or full length can show, part by part.

Each part ends as a row of models/results.jsonl: commit, time, and how many tests passed or failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from effkeras.support import results

ROOT = Path(__file__).parents[1]


class Part:
    """Keeps the tests of one part (of all parts without a name) and counts how they end."""

    def __init__(self, name: str | None):
        self.name = name
        self.known: set[str] = set()
        self.ended: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        parts = {item: [mark.args[0] for mark in item.iter_markers("nightly")] for item in items}
        self.known = {part for found in parts.values() for part in found}
        chosen = [item for item in items if self.name in parts[item]]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.ended[report.outcome] += 1


def run(name: str) -> bool:
    """Runs one part and writes its row; whether all of its tests passed."""
    part, start = Part(name), time.monotonic()
    code = pytest.main(["-m", "nightly", "-p", "no:cacheprovider", str(ROOT / "tests")], plugins=[part])
    counts = {outcome: part.ended[outcome] for outcome in ("passed", "failed", "skipped")}
    minutes = round((time.monotonic() - start) / 60, 1)
    row = {"kind": "nightly", "part": name, "commit": _commit(), **counts, "minutes": minutes}
    results.append(ROOT / "models" / "results.jsonl", [results.stamped(row)])
    return code == pytest.ExitCode.OK


def parts() -> list[str]:
    """The names of all parts, as the tests are marked."""
    part = Part(None)
    pytest.main(["--collect-only", "-qq", "-m", "nightly", str(ROOT / "tests")], plugins=[part])
    return sorted(part.known)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(chosen: list[str]) -> int:
    """Runs the chosen parts, or all; 2 for a part that does not exist, 1 when a test failed."""
    known = parts()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(f"error: there is no part {unknown[0]!r}; parts are {', '.join(known)}", file=sys.stderr)
        return 2
    passed = [run(name) for name in chosen or known]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
