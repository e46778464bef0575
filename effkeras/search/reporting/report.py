"""`effkeras search report OUT...`: pictures of searches, with a page that shows them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from effkeras.commands.options import parser
from effkeras.console import run_command
from effkeras.errors import EffkerasError
from effkeras.files import make_folder, write_bytes, write_text
from effkeras.search.reporting.trials import Search, read_search

BEST = "best.toml"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Draws searches of one space and returns the path of report.md.

    Args:
        folders: of searches; the first one's genes and winner are shown.
        out: the folder to write to; by default `report` in the first.

    Raises:
        EffkerasError: a folder is no search's, their spaces differ, or matplotlib or Optuna is missing.
    """
    searches = [read_search(folder) for folder in dict.fromkeys(folders)]
    spaces = {search.space for search in searches}
    if len(spaces) > 1:
        raise EffkerasError(f"searches of several spaces cannot be compared: {', '.join(sorted(spaces))}")
    out = out or folders[0] / "report"
    pictures = dict(_pictures(searches, folders[0] / BEST))
    make_folder(out)
    for name, content in pictures.items():
        write_bytes(out / f"{name}.png", content)
    write_text(out / "report.md", "\n".join(_page(searches, list(pictures))))
    return out / "report.md"


def _pictures(searches: Sequence[Search], best: Path) -> Iterator[tuple[str, bytes]]:
    from effkeras.search.reporting import charts
    from effkeras.search.reporting.importance import importances
    from effkeras.search.reporting.network import draw_network

    yield "progress", charts.progress_chart(searches)
    for cost in _costs(searches):
        yield f"pareto-{cost}", charts.pareto_chart(searches, cost)
    shares = importances(searches[0])
    if shares:
        yield "importance", charts.importance_chart(shares)
    if best.is_file():
        from effkeras.zoo import spec

        yield "winner", draw_network(spec(best), "The winner")


def _costs(searches: Sequence[Search]) -> list[str]:
    """Costs that every point has."""
    every = [set(point.costs) for search in searches for point in search.points]
    return sorted(cost for cost in set.intersection(*every) if ":" not in cost)


def _page(searches: Sequence[Search], pictures: Sequence[str]) -> Iterator[str]:
    yield from (f"# Search of {searches[0].space}", "")
    yield "| search | strategy | candidates | pruned | failed | best reward | its accuracy | its cost |"
    yield "|---|---|---|---|---|---|---|---|"
    for search in searches:
        yield f"| {' | '.join(_cells(search))} |"
    for search in searches:
        for reason, count in search.failed.items():
            yield from ("", f"{search.name}: {count} failed: {reason}")
    for name in pictures:
        yield from ("", f"![{name}]({name}.png)")
    yield ""


def _cells(search: Search) -> list[str]:
    best, failed = search.best, sum(search.failed.values())
    costs = ", ".join(f"{value:,.6g} {name}" for name, value in best.costs.items())
    return [
        search.name,
        search.strategy,
        str(len(search.points) + search.pruned + failed),
        str(search.pruned),
        str(failed),
        f"{best.reward:.4f}",
        f"{best.accuracy:.4f}",
        costs,
    ]


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    print(f"{write_report(chosen.searches, chosen.out)}: written, with the pictures beside it")


def _parser() -> argparse.ArgumentParser:
    options = parser("search report", "Draws searches: progress, accuracy against cost, genes, the winner.")
    options.add_argument("searches", nargs="+", type=Path, metavar="OUT", help="--out folders of searches")
    options.add_argument("--out", type=Path, metavar="DIR", help="default: report in the first folder")
    return options
