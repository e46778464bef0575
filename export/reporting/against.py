"""Compares a run with an earlier one: what moved, and what moved too far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from effkeras.support.pages import Section, Table
from export.reporting.limits import Limits
from quantize.runs.records import Artifact, Measured, RunData, metric, milliseconds, setting_name, size

_NOTHING = "There is nothing to compare: the two runs measured no file of the same name."


@dataclass(frozen=True, slots=True)
class Move:
    """A figure of a file in both runs, as text, and whether it got worse than its limit allows."""

    file: str
    figure: str
    before: str
    now: str
    by: str
    is_past: bool

    def __str__(self) -> str:
        """A line such as "int8: AP 0.5732 -> 0.5411 (-0.0321)"."""
        return f"{self.file}: {self.figure} {self.before} -> {self.now} ({self.by})"


def moves(old: RunData, new: RunData, limits: Limits) -> list[Move]:
    """Every figure that both runs have of a file of the same name: metrics only if of as many images."""
    before = {one.file: one for one in old.files}
    pairs = [(before[one.file], one) for one in new.files if one.file in before]
    return [move for pair in pairs for move in _moves(*pair, new.metric, limits)]


def section_of(old: RunData, new: RunData, found: Sequence[Move], limits: Limits) -> Section:
    """The part of the report that shows the moves."""
    moved = [one for one in found if one.before != one.now]
    rows = [
        (one.file, one.figure, one.before, one.now, one.by, "past" if one.is_past else "within")
        for one in moved
    ]
    columns = ("file", "figure", "before", "now", "moved by", "limit")
    says = (
        f"Limits: {new.metric} may fall by {limits.drop:g}, a class by a fifth, files may grow by "
        f"{100 * limits.growth:g} %, latencies by {100 * limits.slowdown:g} %. Metrics are compared where "
        "both runs measured as many images of the same split; latencies with the same kernels, threads and "
        "processor.",
        f"{len(moved)} of {len(found)} figures moved." if found else _NOTHING,
    )
    return Section(
        title=f"Against {old.folder}",
        says=(*says, *_only_in_one(old, new)),
        warns=tuple(f"Past the limit: {one}" for one in found if one.is_past),
        tables=(Table("What moved", columns, tuple(rows), words=frozenset({"figure"})),) if rows else (),
    )


def _only_in_one(old: RunData, new: RunData) -> Iterator[str]:
    names = [{one.file for one in run.files} for run in (old, new)]
    for title, files in (("Gone", names[0] - names[1]), ("New", names[1] - names[0])):
        if files:
            yield f"{title}: {', '.join(sorted(files))}."


def _moves(old: Artifact, new: Artifact, name: str, limits: Limits) -> Iterator[Move]:
    is_same = old.accuracy and new.accuracy and old.accuracy.measured_on == new.accuracy.measured_on
    if old.accuracy and new.accuracy and is_same:
        pairs = {name: (old.accuracy.metrics.get(name), new.accuracy.metrics.get(name))}
        pairs |= {f"class {one}": (old.by_class.get(one), new.by_class[one]) for one in new.by_class}
        for title, (before, now) in pairs.items():
            if before is not None and now is not None:
                limit = limits.drop if title == name else before / 5
                by = f"{now - before:+.4f}"
                yield Move(new.name, title, metric(before), metric(now), by, before - now > limit)
    if old.size and new.size:
        yield _cost(new.name, "size", (old.size, new.size), (size(old.size), size(new.size)), limits.growth)
    for one in new.measured:
        other = next((each for each in old.measured if each.setting == one.setting), None)
        if other is None or _processor(other) != _processor(one):
            continue
        times = other.latency.typical_ms, one.latency.typical_ms
        title = f"latency, {setting_name(one.setting)}"
        shown = f"{milliseconds(times[0])} ms", f"{milliseconds(times[1])} ms"
        yield _cost(new.name, title, times, shown, limits.slowdown)


def _processor(one: Measured) -> str:
    return one.environment.cpu if one.environment else ""


def _cost(file: str, title: str, costs: tuple[float, float], shown: tuple[str, str], limit: float) -> Move:
    share = costs[1] / costs[0] - 1 if costs[0] else 0.0
    return Move(file, title, *shown, f"{100 * share:+.1f} %", share > limit)
