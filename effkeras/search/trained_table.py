"""`python -m effkeras.search.trained_table OUT --space S --to FILE.json`: a search's trials as a table.

Searches in such a table (`effkeras.search.bench --table`) take milliseconds, and their best is known when the
table holds the whole space, as the strategy `grid` leaves it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from effkeras import results
from effkeras.console import run_command
from effkeras.errors import EffkerasError
from effkeras.files import whole_file
from effkeras.options import parser
from effkeras.search.genomes import Space
from effkeras.search.job import space_name
from effkeras.search.publishing import KIND, ROWS
from effkeras.search.spaces.reading import read_space
from effkeras.search.table_space import TableSpace, read_table

_PLACES = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a table."""
    return run_command(lambda: _run(argv))


def write_trained(folder: Path, space: Space, to: Path) -> TableSpace:
    """Writes the networks that a search evaluated, and reads them back.

    Args:
        folder: of the search.
        space: that it searched.
        to: a .json file.

    Raises:
        EffkerasError: the folder holds no trial that succeeded, or those of another space.
    """
    rows = [row for row in results.read(folder / ROWS) if _counts(row)]
    if not rows:
        raise EffkerasError(f"{folder} holds no trial that succeeded: give the --out of `effkeras search`")
    if (searched := rows[0]["space"]) != space_name(space):
        raise EffkerasError(f"{folder} holds trials of the space {searched}, not of {space_name(space)}")
    with whole_file(to) as aside:
        aside.write_text("".join(_lines(space, rows)), encoding="utf-8")
        return read_table(aside, space)


def _counts(row: results.Row) -> bool:
    return row.get("kind") == KIND and row["state"] == "complete" and row.get("same_as") is None


def _lines(space: Space, rows: Sequence[results.Row]) -> Iterator[str]:
    """A line for each network, so that a changed table shows what has changed."""
    genes = {gene.name: gene.choices for gene in space.genes}
    yield f'{{"genes": {json.dumps(genes)},\n"rows": {{\n'
    words = sorted(f"{json.dumps(row['genome'])}: {json.dumps(_outcome(row))}" for row in rows)
    yield ",\n".join(words)
    yield "\n}}\n"


def _outcome(row: results.Row) -> dict[str, Any]:
    costs = {name: int(value) if value == int(value) else value for name, value in row["costs"].items()}
    return {"accuracy": round(row["accuracy"], _PLACES), **costs}


def _run(argv: Sequence[str] | None) -> None:
    options = parser("search-table-of-trials", "Makes a table of a search's trials.")
    options.add_argument("search", type=Path, metavar="OUT", help="the folder of a search")
    options.add_argument("--space", required=True, help="what was searched: a name or a TOML file")
    options.add_argument("--to", type=Path, required=True, metavar="FILE.json", help="the table")
    chosen: argparse.Namespace = options.parse_args(argv)
    table = write_trained(chosen.search, read_space(chosen.space), chosen.to)
    print(f"{chosen.to}: {len(table.outcomes):,} networks, {chosen.to.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
