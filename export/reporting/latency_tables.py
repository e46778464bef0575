"""The tables of latencies: every measurement with all that belongs to it, on this machine and on phones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from effkeras.support.pages.parts import NOT_TOLD, Table
from export.reporting.data import XNNPACK, Artifact, Delegated, Environment, Latency, RunData, Setting
from export.reporting.tables import milliseconds, share, size

_FIGURES = ("min ms", "median ms", "p95 ms", "mean ms", "runs", "ops delegated", "peak memory")


@dataclass(frozen=True, slots=True)
class _Measured:
    """A latency and the artifact that it is of."""

    artifact: Artifact
    latency: Latency


def latency_table(run: RunData, setups: Sequence[Environment]) -> Table:
    """One line for every latency that was measured on a computer."""
    rows = tuple(
        (*_cells(one), _setup(one.latency, setups)) for one in _measured(run) if not one.latency.setting.phone
    )
    return Table("Latencies", ("artifact", "kernels", "threads", *_FIGURES, "setup"), rows)


def phone_table(run: RunData, setups: Sequence[Environment]) -> Table:
    """One line for every latency that was measured on a phone, with which one; the setup is its host."""
    rows = tuple(
        (*_cells(one), phone, one.latency.tool or NOT_TOLD, _setup(one.latency, setups))
        for one in _measured(run)
        if (phone := one.latency.setting.phone)
    )
    columns = ("artifact", "kernels", "threads", *_FIGURES, "phone", "benchmark_model", "setup")
    note = (
        f"What the phone's benchmark_model does not print is {NOT_TOLD}. Median and 95th percentile are the "
        "middle ones of several turns. The setup is the computer that the phone was connected to."
    )
    return Table("Latencies on phones", columns, rows, note)


def sorted_latencies(artifact: Artifact) -> list[Latency]:
    """XNNPACK before the plain kernels, then delegates; few threads before many."""

    def order(one: Latency) -> tuple[bool, bool, Setting]:
        return one.setting.is_delegate, one.setting.kernels != XNNPACK, one.setting

    return sorted(artifact.latencies, key=order)


def _measured(run: RunData) -> Iterator[_Measured]:
    return (_Measured(artifact, one) for artifact in run.artifacts for one in sorted_latencies(artifact))


def _cells(one: _Measured) -> tuple[str, ...]:
    latency = one.latency
    times = (latency.min_ms, latency.median_ms, latency.p95_ms, latency.mean_ms)
    return (
        one.artifact.name,
        latency.setting.kernels,
        str(latency.setting.threads),
        *map(milliseconds, times),
        str(latency.runs),
        _delegated(latency.delegated),
        NOT_TOLD if latency.peak_bytes is None else size(latency.peak_bytes),
    )


def _delegated(delegated: Delegated) -> str:
    """Such as "182 of 182: 100 %, 1 partition"; without a count, whether it is everything."""
    if delegated.ops is None:
        words = {True: f"all {delegated.total}", False: f"not all {delegated.total}", None: NOT_TOLD}
        return words[delegated.whole]
    if not delegated.ops:
        return f"none of {delegated.total}"
    return f"{delegated.ops} of {delegated.total}: {share(delegated)}"


def _setup(latency: Latency, setups: Sequence[Environment]) -> str:
    return str(setups.index(latency.environment) + 1) if latency.environment else "unknown"
