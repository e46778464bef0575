"""The page and the chart of `make report-zoo`: published accuracy against measured cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from effkeras.support import results

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec

KIND = "zoo"
_COLUMNS = (
    ("model", ":--"),
    ("published", "--:"),
    ("input", "--:"),
    ("MACs, M", "--:"),
    ("float32, kB", "--:"),
    ("int8, kB", "--:"),
    ("float32, ms", "--:"),
    ("int8, ms", "--:"),
    ("partitions", "--:"),
    ("Edge TPU", ":--"),
)
_INTRO = """# Every model, measured

{count} of the {all} models of the zoo are measured here; `make report-zoo` goes on with the others, and
this page is what it wrote last. Click on a column to sort by it, and type to filter.

**Published** is the accuracy that the authors state for their own weights, in percent: {published}. It was
not measured here. All other columns were **measured** on files with random weights, so none of them is an
accuracy: what int8 costs a trained model is what `effkeras export tflite` prints. int8 is calibrated on
{calibration}.

- **ms**: minimum / median of single inferences, one thread, XNNPACK, the two files in turns ({machine};
  LiteRT {litert}). The load average before was {load}: where it is above the cores, read the minimum.
- **partitions**: in how many XNNPACK takes the network, as float32 / int8 where they differ; 1 is best. "all
  but 3 in 2" where it leaves three operators to the plain kernels.
- **Edge TPU**: the share of multiply-adds that the pre-flight expects on the device, and the weights that
  do not stay in its 8 MB.

![Published accuracy against the measured size and latency of int8 files](zoo.png)

<p id="zoo-filter"></p>
"""
_MARKERS = ("o", "s", "^")  # of families, beside their colours
_METRICS = {"imagenet top-1": "top-1 on ImageNet", "coco val AP": "AP on COCO val"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A model, and its newest row."""

    spec: ModelSpec
    row: Mapping[str, Any]

    @property
    def published(self) -> float | None:
        """The published accuracy in percent; None where there is none."""
        metrics = self.spec.published.metrics if self.spec.published else {}
        return next((metrics[name] for name in _METRICS if name in metrics), None)


def newest(rows: Sequence[results.Row]) -> list[Entry]:
    """The newest row of each model that the zoo still has, those with the fewest multiply-adds first."""
    from effkeras.definitions import zoo

    known = set(zoo.list_models())
    found = {row["model"]: row for row in rows if row["kind"] == KIND and row["model"] in known}
    entries = [Entry(zoo.spec(name), row) for name, row in found.items()]
    return sorted(entries, key=lambda one: one.row["macs"])


def page(rows: Sequence[results.Row]) -> str:
    """The page as Markdown."""
    from effkeras.definitions import zoo

    entries = newest(rows)
    loads = [one.row["load"] for one in entries]
    environments = [one.row["environment"] for one in entries]
    intro = _INTRO.format(
        count=len(entries),
        all=len(zoo.list_models()),
        published=", or ".join(_METRICS.values()),
        calibration=_all(one.row["calibration"] for one in entries),
        machine=_all(f"{one['machine']['cpu']}, {one['machine']['cores']} cores" for one in environments),
        load=f"{min(loads):g} to {max(loads):g}" if loads else "nothing yet",
        litert=_all(one["versions"]["ai-edge-litert"] for one in environments),
    )
    kinds = {"Detectors": True, "Classifiers": False}
    tables = [
        _table(title, [one for one in entries if one.spec.is_detector == detects])
        for title, detects in kinds.items()
    ]
    return "\n".join([intro, *filter(None, tables)])


def _all(values: Any) -> str:
    return "; ".join(sorted(set(values))) or "nothing yet"


def _table(title: str, entries: Sequence[Entry]) -> str:
    if not entries:
        return ""
    head = [f"| {' | '.join(name for name, _ in _COLUMNS)} |", f"|{'|'.join(how for _, how in _COLUMNS)}|"]
    lines = [f"| {' | '.join(_cells(one))} |" for one in entries]
    return "\n".join([f"## {title}", "", *head, *lines, ""])


def _cells(one: Entry) -> list[str]:
    row = one.row
    files = [row["float32"], row["int8"]]
    parts = [_partitions(file) for file in files]
    return [
        row["model"],
        "-" if one.published is None else f"{one.published:g}",
        "x".join(map(str, row["input_size"])),
        f"{row['macs'] / 1e6:,.0f}",
        *(f"{file['bytes'] / 1000:,.0f}" for file in files),
        *(f"{file['min_ms']:,.1f} / {file['median_ms']:,.1f}" for file in files),
        parts[0] if parts[0] == parts[1] else " / ".join(parts),
        _edge_tpu(row["edgetpu"]),
    ]


def _partitions(file: Mapping[str, Any]) -> str:
    total, taken = file["total_ops"], file["delegated_ops"]
    if taken == total:
        return f"{file['partitions']}"
    return f"all but {total - taken} in {file['partitions']}"


def _edge_tpu(found: Mapping[str, Any]) -> str:
    share = f"{100 * found['mac_share']:.0f} %"
    streamed = found.get("streamed", 0)
    return f"{share}, {streamed / 1e6:.1f} MB stream in" if streamed else share


def chart(rows: Sequence[results.Row]) -> bytes:
    """A PNG: published accuracy against measured size and latency of int8 files, a colour for each family."""
    from effkeras.support.drawing import LIGHT, add_legend, legend_dot, new_canvas, png_of, style_axes

    canvas = new_canvas(1, LIGHT)  # which says how to get matplotlib
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    entries = [one for one in newest(rows) if one.published is not None]
    kinds = [
        (title, shown)
        for title, detects in (("published AP, COCO val", True), ("published top-1, %", False))
        if (shown := [one for one in entries if one.spec.is_detector == detects])
    ]
    canvas.figure.set_figheight(2.6 * max(1, len(kinds)) + 0.7)
    families = sorted({one.spec.family for one in entries})
    styles = dict(zip(families, itertools.product(_MARKERS, LIGHT.palette), strict=False))
    grid = canvas.figure.subplots(max(1, len(kinds)), 2, squeeze=False)
    for line, (accuracy, shown) in zip(grid, kinds, strict=False):
        for axes, (key, name) in zip(line, {"bytes": "MB", "min_ms": "ms (minimum)"}.items(), strict=True):
            style_axes(axes, "", LIGHT)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel(f"measured int8, {name}", fontsize=10)
            axes.set_ylabel(accuracy if axes is line[0] else "", fontsize=10)
            for one in shown:
                marker, colour = styles[one.spec.family]
                cost = one.row["int8"][key] / (1e6 if key == "bytes" else 1)
                axes.plot(cost, one.published, marker, color=colour, markersize=5)
    legend = []
    for family, (marker, colour) in styles.items():
        legend.append(legend_dot(colour, family))
        legend[-1].set_marker(marker)
    add_legend(canvas, legend, LIGHT)
    return png_of(canvas)
