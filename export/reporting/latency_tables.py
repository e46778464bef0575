"""The tables of latencies: every measurement on computers and on phones, with its setting and setup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from effkeras.support.measurements import Delegation
from effkeras.support.pages.parts import NOT_REPORTED, Table
from export.reporting.data import XNNPACK, Artifact, Environment, Measured, RunData, Setting
from export.reporting.tables import milliseconds, size

_FIGURES = ("min ms", "median ms", "p95 ms", "mean ms", "runs", "ops delegated", "peak memory")


def latency_table(run: RunData, setups: Sequence[Environment]) -> Table:
    """One row for every latency measured on a computer."""
    rows = tuple(
        (*_cells(artifact, one), _setup(one, setups))
        for artifact, one in _measured(run)
        if not one.setting.phone
    )
    return Table("Latencies", ("artifact", "kernels", "threads", *_FIGURES, "setup"), rows)


def phone_table(run: RunData, setups: Sequence[Environment]) -> Table:
    """One row for every latency measured on a phone, with the phone; the setup is the host computer."""
    rows = tuple(
        (*_cells(artifact, one), phone, one.tool or NOT_REPORTED, _setup(one, setups))
        for artifact, one in _measured(run)
        if (phone := one.setting.phone)
    )
    columns = ("artifact", "kernels", "threads", *_FIGURES, "phone", "benchmark_model", "setup")
    note = (
        f"What the phone's benchmark_model does not print is {NOT_REPORTED}. Median and 95th percentile are "
        "the middle ones of several turns. The setup is the computer that the phone was connected to."
    )
    return Table("Latencies on phones", columns, rows, note)


def sorted_measured(artifact: Artifact) -> list[Measured]:
    """The measurements in order: XNNPACK, plain kernels, then delegates; few threads before many."""

    def order(one: Measured) -> tuple[bool, bool, Setting]:
        return one.setting.is_delegate, one.setting.kernels != XNNPACK, one.setting

    return sorted(artifact.measured, key=order)


def _measured(run: RunData) -> Iterator[tuple[Artifact, Measured]]:
    return ((artifact, one) for artifact in run.artifacts for one in sorted_measured(artifact))


def _cells(artifact: Artifact, one: Measured) -> tuple[str, ...]:
    latency = one.latency
    times = (latency.min_ms, latency.median_ms, latency.p95_ms, latency.mean_ms)
    return (
        artifact.name,
        one.setting.kernels,
        str(one.setting.threads),
        *map(milliseconds, times),
        str(latency.runs),
        _delegated(latency.delegation),
        NOT_REPORTED if latency.peak_bytes is None else size(latency.peak_bytes),
    )


def _delegated(found: Delegation) -> str:
    """Text such as "182 of 182: 100 %, 1 partition"; without a count, whether all were delegated."""
    if found.delegated_ops is None:
        words = {True: f"all {found.total_ops}", False: f"not all {found.total_ops}", None: NOT_REPORTED}
        return words[found.whole]
    if not found.delegated_ops:
        return f"none of {found.total_ops}"
    return f"{found.delegated_ops} of {found.total_ops}: {found.percent()}"


def _setup(one: Measured, setups: Sequence[Environment]) -> str:
    return str(setups.index(one.environment) + 1) if one.environment else "unknown"
