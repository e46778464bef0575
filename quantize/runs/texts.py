"""The figures of a run as texts, for tables and model cards."""

from __future__ import annotations

from effkeras.support.pages import MISSING, NOT_REPORTED
from quantize.runs.records import PLAIN, Setting


def metric(value: float | None) -> str:
    """A metric in 0..1 as text with four decimals."""
    return MISSING if value is None else f"{value:.4f}"


def size(count: int | None) -> str:
    """Bytes as kB or MB (powers of 1000); kB below 10 MB, so that sizes of small models compare easily."""
    if count is None:
        return MISSING
    return f"{count / 1e6:,.2f} MB" if count >= 1e7 else f"{count / 1e3:,.1f} kB"


def setting_name(setting: Setting) -> str:
    """A setting in words."""
    kernels = "plain kernels" if setting.kernels == PLAIN else setting.kernels
    threads = f"{setting.threads} thread" + ("s" if setting.threads != 1 else "")
    return f"{kernels}, {threads}" + (f" on {setting.phone}" if setting.phone else "")


def milliseconds(value: float | None) -> str:
    """A time as text with two decimals."""
    return NOT_REPORTED if value is None else f"{value:.2f}"


def within(interval: tuple[float, float] | None) -> str:
    """The ends of an interval as text."""
    return MISSING if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
