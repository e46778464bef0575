"""Turns what runs measured into charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from export.charts import DARK, LIGHT, Curve, Panel, Point, Series, Theme, trade_off, training
from export.report_data import RunData, Setting
from export.report_tables import SETTINGS, setting_name, sorted_latencies


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture for light and for dark pages, and what it shows, for those who cannot see it."""

    name: str
    about: str
    light: bytes
    dark: bytes


def draw_charts(runs: Sequence[RunData]) -> tuple[Chart, ...]:
    """All charts that the measurements suffice for."""
    metric = runs[0].metric
    charts = []
    sizes = _size_panel(runs)
    if sizes.series:
        about = f"{metric} of every artifact against its file size"
        charts.append(_chart("accuracy-size", about, partial(trade_off, [sizes], metric)))
    latencies = _latency_panels(runs)
    if latencies:
        about = f"{metric} of every artifact against its latency: " + "; ".join(one.title for one in latencies)
        charts.append(_chart("accuracy-latency", about, partial(trade_off, latencies, metric)))
    if any(run.epochs for run in runs):
        about = f"{metric} on validation pictures and loss, by epoch of training"
        charts.append(_chart("training", about, partial(_training, runs)))
    return tuple(charts)


def labels(runs: Sequence[RunData]) -> list[str]:
    """The runs' names, or their paths when names repeat."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _chart(name: str, about: str, draw: Callable[..., bytes]) -> Chart:
    return Chart(name, about, draw(theme=LIGHT), draw(theme=DARK))


def _size_panel(runs: Sequence[RunData]) -> Panel:
    largest = max((one.size or 0 for run in runs for one in run.artifacts), default=0)
    unit, scale = ("MB", 1e6) if largest >= 2e6 else ("kB", 1e3)
    points = {run: _size_points(run, scale) for run in runs}
