"""`effkeras info NAME`: prints a model's definition and its cost."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

from effkeras.building.backbones import spec_with_backbone
from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.graph.counting import count
from effkeras.graph.heads import mask_size
from effkeras.support.console import facts, result, run_command
from effkeras.support.errors import printable_lines
from effkeras.support.options import MODEL_HELP, Verb, add_backbone, add_json, parser

VERB = Verb("info", "what one model is made of")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the facts about one model."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = parser(VERB.name, "What one model is made of, and what it costs.")
    options.add_argument("model", help=MODEL_HELP)
    options.add_argument("--toml", action="store_true", help="print the resolved definition instead")
    add_backbone(options)
    add_json(options)
    chosen = options.parse_args(argv)
    spec = spec_with_backbone(chosen.model, chosen.backbone)
    if chosen.toml:
        print(printable_lines(spec.to_toml()), end="")
        return
    facts(spec.name, _rows(spec))
    result(lambda: _record(spec))


def _record(spec: ModelSpec) -> dict[str, Any]:
    """The facts under names that stay, and the definition as its TOML would read."""
    counts = count(spec)
    costs = {"trainable": counts.trainable, "parameters": counts.total, "macs": counts.macs}
    return {
        "model": spec.name,
        "input_size": list(spec.input.size),
        "classes": spec.classes,
        **costs,
        "operations": counts.operations,
        "definition": tomllib.loads(spec.to_toml()),
    }


def _rows(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    counts = count(spec)
    if spec.summary:
        yield "summary", spec.summary
    yield "input", f"{spec.input.size[0]} x {spec.input.size[1]}, {spec.input.resize}"
    yield "classes", str(spec.classes)
    yield "trainable parameters", f"{counts.trainable:,}"
    yield "all parameters", f"{counts.total:,}"
    yield "multiply-adds (MACs)", f"{counts.macs:,}"
    yield "operations", f"{counts.operations:,}"
    yield from spec.network.description()
    if spec.is_detector:
        yield from _detector_rows(spec)
    yield from _published_rows(spec)


def _detector_rows(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    from effkeras.detection.boxes import anchor_boxes

    parts = detector_parts(spec)
    yield "backbone", spec.backbone or "own"
    yield "levels", f"{parts.fpn.levels[0]} to {parts.fpn.levels[1]}"
    yield "BiFPN", f"{parts.fpn.cells} cells of {parts.fpn.channels} channels, {parts.fpn.fusion} fusion"
    yield "head", f"{parts.head.repeats} layers"
    yield "anchors", f"{len(anchor_boxes(spec)):,}"
    if spec.segments:
        height, width = mask_size(spec.input.size)
        yield "masks", f"{spec.mask_classes} classes, {height} x {width}"


def _published_rows(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    if spec.published is not None:
        for name, value in spec.published.metrics.items():
            yield f"{name} (published)", f"{value:g}"
        yield "published in", spec.published.source
    for name, card in spec.weights.items():
        yield f"weights {name!r}", card.file or card.url
