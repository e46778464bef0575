"""Selects the measurements of runs for the charts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from effkeras.support.drawing import Theme
from effkeras.support.pages import Chart, drawn
from export.reporting.charts import Curve, Panel, Point, Series, layer_errors, trade_off, training
from export.reporting.class_charts import MOST_CLASSES, confusion_matrix, precision_recall
from export.reporting.tables import SETTINGS
from quantize.runs.records import RunData, Setting, setting_name, sorted_measured


def draw_charts(runs: Sequence[RunData]) -> tuple[Chart, ...]:
    """All charts for which there are enough measurements."""
    metric = runs[0].metric
    charts = []
    sizes = _size_panel(runs)
    if sizes.series:
        about = f"{metric} of every artifact against its file size"
        charts.append(drawn("accuracy-size", about, partial(trade_off, [sizes], metric)))
    for name, settings in (("accuracy-latency", _usual(runs)), ("accuracy-delegates", _delegates(runs))):
        latencies = _latency_panels(runs, settings)
        if latencies:
            titles = "; ".join(one.title for one in latencies)
            about = f"{metric} of every artifact against its latency: {titles}"
            charts.append(drawn(name, about, partial(trade_off, latencies, metric)))
    for name, panel in (("accuracy-macs", _macs_panel(runs)), ("accuracy-delegated", _delegated_panel(runs))):
        if len({point.cost for one in panel.series for point in one.points}) > 1:  # else it says nothing
            about = f"{panel.title}: {metric} of every artifact against its {panel.cost}"
            charts.append(drawn(name, about, partial(trade_off, [panel], metric)))
    if any(len(run.epochs) > 1 for run in runs):  # one epoch makes no curve
        about = f"{metric} on validation images and loss during training"
        charts.append(drawn("training", about, partial(_training, runs)))
    return tuple(charts)


def draw_details(run: RunData, place: int) -> tuple[Chart, ...]:
    """The charts of what `effkeras eval` and exports kept of a run, the report's run number `place`."""
    suffix = f"-{place}" if place else ""
    return (*_draw_evaluation(run, suffix), *_draw_layers(run, suffix))


def _draw_layers(run: RunData, suffix: str) -> tuple[Chart, ...]:
    known = {one.name: one.layers for one in run.artifacts if one.layers}
    if not known:
        return ()
    about = f"Quantization errors of the layers of {', '.join(known)}, and the largest by name"
    return (drawn(f"layer-errors{suffix}", about, partial(layer_errors, known)),)


def _draw_evaluation(run: RunData, suffix: str) -> tuple[Chart, ...]:
    details = run.details
    if details is None:
        return ()
    where = f"{details['images']} images of {details['split']}"
    charts = []
    if details["curves"]:
        about = f"Precision against recall, and F1 against the score, at IoU 0.5, by class, on {where}"
        draw = partial(precision_recall, details["curves"], details["score"])
        charts.append(drawn(f"precision-recall{suffix}", about, draw))
    if len(details["labels"]) <= MOST_CLASSES:
        about = f"Confusion matrix of the classes on {where}"
        charts.append(drawn(f"confusion{suffix}", about, partial(confusion_matrix, details)))
    return tuple(charts)


def labels(runs: Sequence[RunData]) -> list[str]:
    """The runs' names, or their paths when names repeat."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _size_panel(runs: Sequence[RunData]) -> Panel:
    largest = max((one.size or 0 for run in runs for one in run.artifacts), default=0)
    unit, scale = ("MB", 1e6) if largest >= 2e6 else ("kB", 1e3)
    points = [
        _points(run, {one.file: one.size and one.size / scale for one in run.artifacts}, run.best_by_size())
        for run in runs
    ]
    return Panel("Accuracy against size", "file size", unit, _series(runs, points))


def _macs_panel(runs: Sequence[RunData]) -> Panel:
    points = [
        _points(run, {one.file: None if one.macs is None else one.macs / 1e6 for one in run.artifacts}, best)
        for run, best in ((run, run.best_by_macs()) for run in runs)
    ]
    return Panel("Accuracy against multiply-adds", "multiply-adds", "million", _series(runs, points))


def _delegated_panel(runs: Sequence[RunData]) -> Panel:
    points = [
        _points(run, {one.file: one.left_out for one in run.artifacts}, run.best_by_delegation())
        for run in runs
    ]
    return Panel("Accuracy against delegated share", "operators outside XNNPACK", "%", _series(runs, points))


def _points(run: RunData, costs: Mapping[str, float | None], best: frozenset[str]) -> list[Point]:
    """A point for each measured artifact with a cost, which `costs` has by its file."""
    return [
        Point(one.name, cost, score, one.file in best)
        for one in run.artifacts
        if (cost := costs[one.file]) is not None and (score := run.score(one)) is not None
    ]


def _usual(runs: Sequence[RunData]) -> list[Setting]:
    """XNNPACK with 1 and 2 threads; if neither was measured, the first two settings that were."""
    measured = [setting for setting in _measured(runs) if not setting.is_delegate]
    return [setting for setting in SETTINGS[:2] if setting in measured] or measured[:2]


def _delegates(runs: Sequence[RunData]) -> list[Setting]:
    """Every delegate once, with the smallest measured number of threads."""
    first: dict[tuple[str, str], Setting] = {}
    for setting in sorted(filter(lambda one: one.is_delegate, _measured(runs))):
        first.setdefault((setting.phone, setting.kernels), setting)
    return list(first.values())


def _measured(runs: Sequence[RunData]) -> list[Setting]:
    """The settings under which an artifact has a median latency."""
    found = (one for run in runs for file in run.artifacts for one in sorted_measured(file))
    return list(dict.fromkeys(one.setting for one in found if one.latency.median_ms is not None))


def _latency_panels(runs: Sequence[RunData], settings: Sequence[Setting]) -> list[Panel]:
    panels = []
    for setting in settings:
        points = [_latency_points(run, setting) for run in runs]
        title = setting_name(setting)  # with a phone's name, it is long enough by itself
        title = title if setting.phone else f"Accuracy against latency: {title}"
        cost = "median; bar: fastest to 95th percentile"
        panels.append(Panel(title, cost, "ms", _series(runs, points)))
    return [panel for panel in panels if panel.series]


def _latency_points(run: RunData, setting: Setting) -> list[Point]:
    best = run.best_by_latency(setting)
    return [
        Point(
            one.name,
            found.median_ms,
            score,
            one.file in best,
            None if found.p95_ms is None else (found.min_ms, found.p95_ms),
        )
        for one in run.artifacts
        if (found := one.latency(setting)) and found.median_ms is not None
        if (score := run.score(one)) is not None
    ]


def _series(runs: Sequence[RunData], points: Sequence[list[Point]]) -> tuple[Series, ...]:
    """A series for every run; empty when no run has a point."""
    if not any(points):
        return ()
    named = zip(labels(runs), runs, points, strict=True)
    return tuple(Series(name, tuple(own), run.score(run.keras)) for name, run, own in named)


def _training(runs: Sequence[RunData], theme: Theme) -> bytes:
    metric = runs[0].metric
    by_step = all(one.step is not None for run in runs for one in run.epochs)
    accuracy, loss = [], []
    for name, run in zip(labels(runs), runs, strict=True):
        places = [one.step if by_step and one.step is not None else one.number for one in run.epochs]
        values = [one.metrics.get(metric) for one in run.epochs]
        accuracy.append(_curve(name, list(zip(places, values, strict=True))))
        loss.append(_curve(name, list(zip(places, [one.loss for one in run.epochs], strict=True))))
    return training(accuracy, loss, metric, theme, "step" if by_step else "epoch")


def _curve(name: str, values: Sequence[tuple[int, float | None]]) -> Curve:
    known = [(number, value) for number, value in values if value is not None]
    return Curve(name, tuple(number for number, _ in known), tuple(value for _, value in known))
