"""Numbers of searches as text, and the tables of a report."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from effkeras.search.genomes import Choice
from effkeras.search.objectives import pareto_front
from effkeras.search.reporting.searches import Point, Search
from effkeras.support.pages import MISSING, Table

_COSTS = {
    "macs": "multiply-adds",
    "parameters": "parameters",
    "bytes": "bytes of the .tflite",
    "latency_ms": "latency (ms)",
}
_TABLE = "table:"


def cost_name(cost: str) -> str:
    """A cost in words."""
    if cost.startswith(_TABLE):
        return f"latency (ms) by {Path(cost.removeprefix(_TABLE)).name}"
    return _COSTS.get(cost, cost)


def slug(cost: str) -> str:
    """A cost as part of a file name."""
    name = Path(cost).stem if cost.startswith(_TABLE) else cost
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "cost"


def amount(value: float) -> str:
    """A cost's value: whole numbers in full, others with four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def choice(value: Choice) -> str:
    """A choice as in TOML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    """A duration as hours and minutes, minutes and seconds, or seconds."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"


def command(words: Iterable[object]) -> str:
    """A shell command from its words."""
    return shlex.join(map(str, words))


MOST = 10  # best candidates in a table
_SAME = "="


def common_costs(searches: Sequence[Search], first: str = "macs") -> list[str]:
    """The costs that every candidate has: `first`, then the others sorted by name."""
    every = [set(point.costs) for search in searches for point in search.points]
    return sorted(set.intersection(*every), key=lambda cost: (cost != first, cost))


def search_table(searches: Sequence[Search], costs: Sequence[str]) -> Table:
    """One row per search: counts of its candidates, and its best one."""
    columns = ("search", "strategy", "candidates", "pruned", "failed", "best reward", "its accuracy")
    return Table(
        caption="Searches",
        columns=(*columns, *(f"its {cost_name(cost)}" for cost in costs), "seed", "time"),
        rows=tuple(tuple(_search_cells(search, costs)) for search in searches),
        note="Time is that of all evaluations, one after the other; workers share it.",
        words=frozenset({"strategy"}),
    )


def choice_table(search: Search, shares: Mapping[str, float]) -> Table:
    """One row per gene: the best candidate's choice, and all tried choices."""
    best = search.best.choices
    columns = ("gene", "choice", "tried", *(("share (%)",) if shares else ()))
    rows = []
    for gene, value in best.items():
        tried = _sorted({point.choices[gene] for point in search.points})
        share = (f"{100 * shares[gene]:.0f}" if gene in shares else "-",) if shares else ()
        rows.append((gene, choice(value), ", ".join(map(choice, tried)), *share))
    note = "Share: the gene's part of the importance of all." if shares else ""
    return Table("Its choices", columns, tuple(rows), note, frozenset({"choice", "tried"}))


def best_table(searches: Sequence[Search], costs: Sequence[str]) -> Table:
    """One row for each of the best candidates of all searches."""
    columns = ("candidate", "reward", "accuracy", *map(cost_name, costs), "time", "Pareto")
    fronts = {(search.name, cost): _front(search, cost) for search in searches for cost in costs}
    rows = []
    for search, point in best_of(searches):
        marks = [cost_name(cost) for cost in costs if point.trial in fronts[search.name, cost]]
        figures = (
            f"{point.reward:.4f}",
            f"{point.accuracy:.4f}",
            *(amount(point.costs[one]) for one in costs),
        )
        rows.append(
            (_heading(search, point, searches), *figures, duration(point.seconds), ", ".join(marks) or "-")
        )
    return Table(
        caption="Figures",
        columns=columns,
        rows=tuple(rows),
        note="Pareto: the costs at which no other candidate of its search beats this one in both.",
    )


def alike_table(searches: Sequence[Search]) -> Table:
    """One row per gene and one column per best candidate, to show where they agree."""
    best = best_of(searches)
    first = best[0][1].choices
    rows = []
    for gene, value in first.items():
        others = (point.choices.get(gene) for _, point in best[1:])
        rows.append((gene, choice(value), *(_SAME if one == value else choice(one or 0) for one in others)))
    return Table(
        caption="Where they agree",
        columns=("gene", *(_heading(search, point, searches) for search, point in best)),
        rows=tuple(rows),
        note=f"{_SAME} is the choice of the best one.",
    )


def failure_table(searches: Sequence[Search]) -> Table:
    """One row per reason; reasons that differ only in numbers are merged."""
    rows = [
        (search.name, reason or "no reason was given", str(count))
        for search in searches
        for reason, count in _by_kind(search.failed)
    ]
    note = "Reasons that differ in numbers only are counted as one."
    return Table("Reasons", ("search", "reason", "candidates"), tuple(rows), note, frozenset({"reason"}))


def best_of(searches: Sequence[Search]) -> list[tuple[Search, Point]]:
    """The candidates with the highest rewards, best first; equal ones in order of search and trial."""
    every = [(search, point) for search in searches for point in search.points]
    return sorted(every, key=lambda one: -one[1].reward)[:MOST]


def _search_cells(search: Search, costs: Sequence[str]) -> Iterator[str]:
    best = search.best
    yield search.name
    yield search.strategy
    yield str(search.candidates)
    yield str(search.pruned)
    yield str(sum(search.failed.values()))
    yield f"{best.reward:.4f}"
    yield f"{best.accuracy:.4f}"
    for cost in costs:
        yield amount(best.costs[cost]) if cost in best.costs else MISSING
    yield str(search.seed)
    yield duration(search.seconds)


def _front(search: Search, cost: str) -> set[int]:
    front = pareto_front([(point.accuracy, point.costs[cost]) for point in search.points])
    return {search.points[index].trial for index in front}


def _heading(search: Search, point: Point, searches: Sequence[Search]) -> str:
    return f"trial {point.trial}" if len(searches) == 1 else f"{search.name}, trial {point.trial}"


def _by_kind(failed: Mapping[str, int]) -> list[tuple[str, int]]:
    """Merged reasons with counts, the most frequent first; each is shown by its first example."""
    counts: Counter[str] = Counter()
    words: dict[str, str] = {}
    for reason, count in failed.items():
        kind = re.sub(r"\d[\d.,]*", "#", reason)
        words.setdefault(kind, reason)
        counts[kind] += count
    return [(words[kind], count) for kind, count in counts.most_common()]


def _sorted(values: set[Choice]) -> list[Choice]:
    """Sorts numbers by value, then text by name."""
    return sorted(
        values, key=lambda one: (isinstance(one, str), one if not isinstance(one, str) else 0, str(one))
    )
