"""`python -m export.report RUN...`: accuracy against size and latency, as Markdown, HTML and PNG charts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from effkeras.support.console import run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, parser
from effkeras.support.pages import write_page

SAMPLES = 8


VERB = Verb("export report", "accuracy against size and latency, as a page")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def write_report(runs: Sequence[Path], out: Path | None = None, samples: int = SAMPLES) -> Path:
    """Writes report.md, report.html and the charts, and returns the path of report.html.

    Args:
        runs: run folders; charts show them together.
        out: the folder to write to (default: `report` in the first run).
        samples: the maximum number of drawn images to show of each run (RUN/samples/*.png).

    Raises:
        EffkerasError: no run is given, a folder is no run folder or has no results, the runs have different
            metrics, or matplotlib or jinja2 is missing.
    """
    from export.reporting.content import page_of
    from export.reporting.reading import read_run

    if not runs:
        raise EffkerasError("a report needs at least one run folder")
    page = page_of([read_run(folder, samples) for folder in dict.fromkeys(runs)])
    return write_page(page, out or runs[0] / "report", "export.reporting", "report")


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    written = write_report(chosen.runs, chosen.out, chosen.samples)
    print(f"{written}: written, with report.md and the charts beside it")


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Accuracy against size and latency, as report.html, report.md and PNG.")
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders to show together")
    options.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: report in the first RUN)"
    )
    options.add_argument(
        "--samples",
        type=_at_least_zero,
        default=SAMPLES,
        help=f"drawn images of each run (default: {SAMPLES})",
    )
    return options


def _at_least_zero(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
