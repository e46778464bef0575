"""`python -m export.report RUN...`: accuracy against size and latency, as HTML, Markdown, CSV and PNG."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.console import quiet, run_command, say, warn
from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.options import Verb, add_old_name, parser
from effkeras.support.pages import Section, write_page
from export.reporting.limits import Limits

if TYPE_CHECKING:
    from export.reporting.against import Move
    from quantize.runs.records import RunData

SAMPLES = 8
_ABOUT = """Accuracy against size, latency and more, as report.html, report.md, report.csv and PNG. Beside
every artifact of the runs it writes a model card of the same figures."""


VERB = Verb("export report", "accuracy against size and latency, as a page")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report shows.

    `samples` is the maximum number of drawn images of each run (RUN/samples/*.png). If it is not 0, the model
    and its smallest artifact run on a few images of the data set, if that is there. `against` is an earlier
    run, which the only run is compared with.
    """

    samples: int = SAMPLES
    against: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Report:
    """The path of a written report.html, and a line for each figure that moved past its limit."""

    file: Path
    past: tuple[str, ...] = ()


def write_report(
    runs: Sequence[Path], out: Path | None = None, options: ReportOptions = ReportOptions()
) -> Report:
    """Writes report.html, report.md, report.csv and the charts, and a model card beside every artifact.

    Args:
        runs: run folders; charts show them together.
        out: the folder to write to (default: `report` in the first run).
        options: what to show.

    Raises:
        EffkerasError: no run is given, a folder is no run folder or has no results, the runs have different
            metrics, several runs are compared with one, or matplotlib or jinja2 is missing.
    """
    from export.reporting.content import csv_of, page_of
    from quantize.runs.cards import write_cards
    from quantize.runs.reading import read_run

    if not runs:
        raise EffkerasError("a report needs at least one run folder")
    found = [read_run(folder, options.samples) for folder in dict.fromkeys(runs)]
    moved, first = _moved(found, options)
    if options.samples:
        found = [_with_comparisons(run) for run in found]
    written = write_page(page_of(found, first), out or runs[0] / "report", "export.reporting", "report")
    write_text(written.with_suffix(".csv"), csv_of(found))
    for run in found:
        write_cards(run)
    return Report(written, tuple(str(one) for one in moved if one.is_past))


def _moved(runs: Sequence[RunData], options: ReportOptions) -> tuple[list[Move], list[Section]]:
    """The moves against the earlier run, and their section; both empty without one."""
    from export.reporting.against import moves, section_of
    from quantize.runs.reading import read_run

    if options.against is None:
        return [], []
    if len(runs) > 1:
        raise EffkerasError(f"--against compares one run with {options.against}; give a single RUN")
    old = read_run(options.against, 0)
    if old.metric != runs[0].metric:
        raise EffkerasError(
            f"{old.folder} is judged by {old.metric}, and {runs[0].folder} by {runs[0].metric}"
        )
    found = moves(old, runs[0], options.limits)
    return found, [section_of(old, runs[0], found, options.limits)]


def _with_comparisons(run: RunData) -> RunData:
    is_kept = any((run.folder / "evaluation").glob("compared-*.png"))
    if not run.trained.data or not (is_kept or Path(run.trained.data).exists()):
        return run  # without loading what draws them
    with quiet():  # this loads TensorFlow
        from export.reporting.comparisons import comparison_sheets
    return replace(run, comparisons=comparison_sheets(run))


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    limits = Limits(chosen.max_drop, chosen.max_growth, chosen.max_slowdown)
    options = ReportOptions(chosen.images, chosen.against, limits)
    report = write_report(chosen.runs, chosen.out, options)
    say(f"{report.file}: written, with report.md, report.csv and the charts beside it")
    for line in report.past:
        warn(f"past the limit: {line}")
    return 1 if report.past else 0


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, _ABOUT)
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders to show together")
    options.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: report in the first RUN)"
    )
    options.add_argument(
        "--images",
        type=_at_least_zero,
        default=SAMPLES,
        help=f"drawn images of each run (default: {SAMPLES}; 0: none, which saves a minute the first time)",
    )
    add_old_name(options, "--samples", "--images")
    options.add_argument(
        "--against",
        type=Path,
        metavar="OLD",
        help="an earlier run: shows what moved; exit code 1 past a limit",
    )
    limits = Limits()
    for name, default, what in (
        ("--max-drop", limits.drop, "how far the metric may fall"),
        ("--max-growth", limits.growth, "by which share a file may grow"),
        ("--max-slowdown", limits.slowdown, "by which share a latency may grow"),
    ):
        options.add_argument(
            name, type=_share, default=default, metavar="X", help=f"{what} (default: {default:g})"
        )
    return options


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return number


def _at_least_zero(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
