"""A table of trained networks as a space: a search in it takes milliseconds, and the best is known.

`python -m effkeras.search.benchmarks.table_space OUT --space S --to FILE.json` makes a table from the trials
of a search. A JSON table has the genes of its space (`key` writes the genomes):

    {"genes": {"op": ["conv", "sep"], "width": [8, 16]},
     "rows": {"0-1": {"accuracy": 0.91, "parameters": 1234, "macs": 56789}}}

A CSV table has the columns genome, accuracy and one for each cost; its genes are numbered.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.search.folder import trial_rows
from effkeras.search.genomes import Gene, Genome, Space, genome_of, key
from effkeras.search.spaces.reading import read_space
from effkeras.search.trials.job import space_name
from effkeras.support import results
from effkeras.support.console import run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.files import whole_file
from effkeras.support.options import parser

_ACCURACY = "accuracy"
# At least one of this many draws must be in the table.
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A network in a table: its accuracy in 0..1, and its costs by name."""

    accuracy: float
    costs: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TableSpace:
    """A space of the networks in a table; all other genomes are invalid.

    `space` is the space of the networks; it determines which genomes are the same network.
    """

    space: Space
    outcomes: Mapping[Genome, Outcome]

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes of the space."""
        return self.space.genes

    def canonical(self, genome: Genome) -> Genome:
        """The canonical genome in the space."""
        return self.space.canonical(genome)

    def problem(self, genome: Genome) -> str:
        """The space's problem, or that the network is not in the table; "" for a valid genome."""
        why = self.space.problem(genome)
        if why or self.space.canonical(genome) in self.outcomes:
            return why
        return f"the table has no network {key(genome)}"

    def knows(self, cost: str) -> bool:
        """Whether the table has this cost for every network."""
        return all(cost in outcome.costs for outcome in self.outcomes.values())

    def outcome(self, genome: Genome) -> Outcome:
        """The table's entry for a canonical genome."""
        return self.outcomes[genome]


@dataclass(frozen=True, slots=True)
class PlainSpace:
    """A space in which every genome is a different network."""

    genes: tuple[Gene, ...]

    def canonical(self, genome: Genome) -> Genome:
        """The genome itself."""
        return genome

    def problem(self, genome: Genome) -> str:
        """Always "": all genomes are valid."""
        return ""


def read_table(path: Path, space: Space | None = None) -> TableSpace:
    """Reads a .json or .csv table of the networks of `space`; None means a plain space of the table's genes.

    Raises EffkerasError, which names the file, the row and the mistake, for an invalid table.
    """
    rows, genes = _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path)
    if not rows:
        raise EffkerasError(f"{path}: the table has no rows")
    if space is not None and [len(gene.choices) for gene in space.genes] != [
        len(gene.choices) for gene in genes
    ]:
        raise EffkerasError(f"{path} is a table of another space: its genes have other numbers of choices")
    known = space or PlainSpace(genes)
    table = TableSpace(known, dict(_row(path, known, word, row) for word, row in rows.items()))
    _check_covered(path, table)
    return table


def _check_covered(path: Path, table: TableSpace) -> None:
    """Raises EffkerasError if draws rarely hit the table, as strategies draw until a genome is in it."""
    random = np.random.default_rng(0)
    sizes = [len(gene.choices) for gene in table.genes]
    if not any(not table.problem(tuple(map(int, random.integers(sizes)))) for _ in range(_DRAWS)):
        raise EffkerasError(
            f"{path} has too few of its space: {len(table.outcomes):,}, and none of {_DRAWS:,} draws; "
            "train all of a smaller space"
        )


def _row(path: Path, space: Space, word: str, row: Mapping[str, Any]) -> tuple[Genome, Outcome]:
    where = f"{path}, genome {word}"
    try:
        genome = genome_of(word, space)
    except EffkerasError as error:
        raise EffkerasError(f"{path}: {error}") from error
    if space.problem(genome) or space.canonical(genome) != genome:
        raise EffkerasError(
            f"{where}: no canonical genome of the space; write it by effkeras.search.genomes.key"
        )
    if _ACCURACY not in row:
        raise EffkerasError(f"{where}: the accuracy is missing")
    values = {name: _number(value, f"{where}: {name}") for name, value in row.items()}
    if not 0 <= (accuracy := values.pop(_ACCURACY)) <= 1:
        raise EffkerasError(f"{where}: the accuracy must be from 0 to 1, not {accuracy}")
    return genome, Outcome(accuracy, values)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise EffkerasError(f"{where} must be a number, not {value!r}") from error
    if not math.isfinite(number):
        raise EffkerasError(f"{where} must be a finite number, not {value!r}")
    return number


def _read_json(path: Path) -> tuple[dict[str, Any], tuple[Gene, ...]]:
    try:
        table = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise EffkerasError(f"{path} is not valid JSON: {error}") from error
    parts = [table.get(part) if isinstance(table, dict) else None for part in ("genes", "rows")]
    genes, rows = parts
    if not isinstance(genes, dict) or not isinstance(rows, dict):
        raise EffkerasError(f'{path}: a table of networks is {{"genes": {{...}}, "rows": {{...}}}}')
    for name, value in (*genes.items(), *rows.items()):
        if not isinstance(value, list if name in genes else dict):
            raise EffkerasError(f"{path}: {name} must be a {'list of choices' if name in genes else 'table'}")
    return rows, tuple(Gene(name, tuple(choices)) for name, choices in genes.items())


def _read_csv(path: Path) -> tuple[dict[str, Any], tuple[Gene, ...]]:
    reader = csv.DictReader(_text(path).splitlines())
    if "genome" not in (reader.fieldnames or ()):
        raise EffkerasError(f"{path}: the first line must name the columns: genome,accuracy,parameters,macs")
    rows: dict[str, Any] = {}
    for row in reader:
        word = row.pop("genome")
        if None in row or None in row.values():
            raise EffkerasError(f"{path}, line {reader.line_num}: other than {len(row) + 1} columns")
        if word in rows:
            raise EffkerasError(f"{path}, line {reader.line_num}: the genome {word} is there twice")
        rows[word] = row
    return rows, _numbered(path, list(rows))


def _numbered(path: Path, words: list[str]) -> tuple[Gene, ...]:
    """Numbered genes with as many choices as the genomes use."""
    try:
        genomes = [tuple(map(int, word.split("-"))) for word in words]
        columns = list(zip(*genomes, strict=True))
    except ValueError as error:
        raise EffkerasError(f"{path}: genomes should be numbers like 3-0-1, of the same length") from error
    return tuple(Gene(f"gene{index}", tuple(range(max(column) + 1))) for index, column in enumerate(columns))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EffkerasError(f"{path} is not a text file: {error}") from error


_PLACES = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def write_trained(folder: Path, space: Space, to: Path) -> TableSpace:
    """Writes the networks that a search evaluated as a table, and reads it back.

    Args:
        folder: the folder of the search.
        space: the space of the search.
        to: the .json file to write.

    Raises:
        EffkerasError: the folder holds no successful trial, or trials of another space.
    """
    rows = [row for row in trial_rows(folder) if _counts(row)]
    if not rows:
        raise EffkerasError(f"{folder} holds no trial that succeeded: give the --out of `effkeras search`")
    if (searched := rows[0]["space"]) != space_name(space):
        raise EffkerasError(f"{folder} holds trials of the space {searched}, not of {space_name(space)}")
    with whole_file(to) as aside:
        aside.write_text("".join(_lines(space, rows)), encoding="utf-8")
        return read_table(aside, space)


def _counts(row: results.Row) -> bool:
    return row["state"] == "complete" and row.get("same_as") is None


def _lines(space: Space, rows: Sequence[results.Row]) -> Iterator[str]:
    """The table as text with one line per network, so that diffs are readable."""
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
