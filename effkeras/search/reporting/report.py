"""`effkeras search report OUT...`: writes searches as one HTML page, as Markdown and as images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from effkeras.support.console import run_command, say
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, parser
from effkeras.support.pages import write_page

VERB = Verb("search report", "draw searches: progress, Pareto front, genes")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Writes report.html, report.md and the charts of searches of one space; returns the path of report.html.

    Args:
        folders: folders of searches; the report shows genes and best network of the first one.
        out: the folder to write to; by default `report` in the first folder.

    Raises:
        EffkerasError: no folder is given, or one holds no search; the searches have different spaces;
            matplotlib, jinja2 or Optuna is missing.
    """
    from effkeras.search.reporting.content import page_of
    from effkeras.search.reporting.searches import read_searches

    if not folders:
        raise EffkerasError("a report needs at least one search's folder")
    page = page_of(read_searches(folders))
    return write_page(page, out or folders[0] / "report", "effkeras.search.reporting", "search")


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    written = write_report(chosen.searches, chosen.out)
    say(f"{written}: written, with report.md and the images beside it")


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name, "Draws searches as report.html: progress, accuracy against cost, genes, the winner."
    )
    options.add_argument("searches", nargs="+", type=Path, metavar="DIR", help="--out folders of searches")
    options.add_argument("--out", type=Path, metavar="DIR", help="default: report in the first folder")
    return options
