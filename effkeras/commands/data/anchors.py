"""What `effkeras data check --model` says of a detector's anchors: their cover per class, and better ones."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effkeras.data.all_splits import merged
from effkeras.data.records import DetectionData, LabelledData
from effkeras.data.splits import TRAIN
from effkeras.definitions import zoo
from effkeras.definitions.definition import SCHEMA, ModelSpec, detector_parts
from effkeras.detection.anchor_fit import Fit, fit, input_boxes, is_better, kmeans, suggest
from effkeras.support.console import say, table
from effkeras.support.errors import EffkerasError, printable

_SHOWN_CLASSES = 30


@dataclass(frozen=True, slots=True)
class AnchorReport:
    """How a model's anchors fit, and the suggestion, or None where they fit well; `toml` states it."""

    model: str
    labels: tuple[str, ...]
    own: Fit
    better: Fit | None
    toml: str


def detector(model: str) -> ModelSpec:
    """The definition of a detector. Raises EffkerasError for other models."""
    spec = zoo.spec(model)
    if not spec.detects:
        raise EffkerasError(f"{model} has no anchors; --model takes a detector, such as efficientdet-lite0")
    return spec


def check_anchors(model: str, spec: ModelSpec, splits: Sequence[LabelledData]) -> AnchorReport:
    """Compares a detector's anchors with the boxes of all splits. Raises EffkerasError without boxes."""
    data = merged(splits, TRAIN)
    if not isinstance(data, DetectionData):
        raise EffkerasError(f"{data.root} has no boxes to compare with the anchors of {model}")
    found = input_boxes(data, spec.input)
    if not len(found.boxes):
        raise EffkerasError(f"{data.root} has no boxes to compare with the anchors of {model}")
    own, best = fit(found, spec, len(data.labels)), suggest(data, spec)
    if not is_better(best, own):
        return AnchorReport(model, data.labels, own, None, "")
    sides = input_boxes(data, replace(spec.input, size=best.size)).boxes
    clusters = kmeans(sides[:, 2:] - sides[:, :2], detector_parts(spec).anchors.per_location)
    typical = ", ".join(f"{height:.0f} x {width:.0f}" for height, width in clusters)
    return AnchorReport(model, data.labels, own, best, _definition(model, best, typical))


def _definition(model: str, best: Fit, typical: str) -> str:
    """A definition that overrides the model's input size and anchors, as TOML."""
    note = f"Typical boxes at this size (k-means on IoU), height x width: {typical}"
    lines = textwrap.wrap(note, 80, initial_indent="# ", subsequent_indent="# ")
    if Path(model).suffix != ".keras":
        base = str(Path(model).resolve()) if Path(model).exists() else model
        lines += [f"schema = {SCHEMA}", f"base = {json.dumps(base)}", ""]
    lines += ["[input]", f"size = {list(best.size)}", ""]
    lines += ["[anchors]", f"scale = {best.anchors.scale}"]
    return "\n".join([*lines, f"aspect_ratios = {list(best.anchors.aspect_ratios)}", ""])


def print_anchors(report: AnchorReport) -> None:
    """Prints the cover per class, and the suggestion as TOML."""
    own, better = report.own, report.better
    columns = ["class", f"{own.size[0]} x {own.size[1]}, scale {own.anchors.scale:g}"]
    if better:
        columns.append(f"{better.size[0]} x {better.size[1]}, scale {better.anchors.scale:g}")
    fits = [one for one in (own, better) if one]
    worst_first = sorted(range(len(report.labels)), key=lambda place: (own.covered[place], place))
    shown = [place for place in worst_first if not math.isnan(own.covered[place])][:_SHOWN_CLASSES]
    rows = [
        [printable(report.labels[place], 30), *(f"{one.covered[place]:.1%}" for one in fits)]
        for place in shown
    ]
    rows.append(["mean IoU of the best anchors", *(f"{one.iou:.3f}" for one in fits)])
    table(f"boxes that an anchor of {report.model} covers (IoU of 0.5 or more)", columns, rows)
    if better is None:
        say("the anchors and the input size fit these boxes\n")
        return
    say("better anchors; save this as mine.toml, and train mine.toml instead:\n")
    say(report.toml)


def as_json(report: AnchorReport) -> dict[str, Any]:
    """The report as a table for JSON."""
    found = {"own": _fit_table(report, report.own)}
    if report.better:
        found |= {"suggested": _fit_table(report, report.better) | {"toml": report.toml}}
    return {"model": report.model, **found}


def _fit_table(report: AnchorReport, one: Fit) -> dict[str, Any]:
    shares = zip(report.labels, one.covered, strict=True)
    return {
        "size": list(one.size),
        "scale": one.anchors.scale,
        "aspect_ratios": list(one.anchors.aspect_ratios),
        "covered": {label: share for label, share in shares if not math.isnan(share)},
        "mean_iou": one.iou,
    }
