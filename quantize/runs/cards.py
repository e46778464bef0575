"""Model cards: a Markdown file beside an artifact that says what it is, from the records of its run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec, WeightsSpec
from effkeras.inference.task import label_of, tasks_of
from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_text
from effkeras.support.pages import MISSING, escaped
from effkeras.support.results import Row
from effkeras.weights.cards import backbone_with
from quantize.runs.reading import read_export, read_run
from quantize.runs.records import (
    Artifact,
    RunData,
    metric,
    milliseconds,
    setting_name,
    size,
    sorted_measured,
    within,
)

RANDOM = "none"  # the start of a training from random weights
_FEW = 500  # images: with fewer, the card says that chance matters
_NAMED = 20  # classes that a card names


def card_path(artifact: Path) -> Path:
    """The path of an artifact's card: int8.tflite has int8.md."""
    return artifact.with_suffix(".md")


def write_cards(run: RunData) -> None:
    """Writes a card beside every artifact of a run whose file is there."""
    for one in run.artifacts:
        file = one.path_in(run.folder)
        if file is not None and one.exists:
            write_text(card_path(file), card_of(run, one))


def write_card(file: Path, spec: ModelSpec, row: Row, run: Path | None) -> Path:
    """Writes the card of an export: of all that its run knows, or of its row alone; returns its path."""
    known = read_export(row, spec, file.parent)
    if run is not None:
        with contextlib.suppress(EffkerasError):  # rows of other files may be damaged; this file is there
            known = read_run(run, 0)
    one = next(one for one in known.artifacts if one.file == file.name)
    write_text(card_path(file), card_of(known, one))
    return card_path(file)


def card_of(run: RunData, one: Artifact) -> str:
    """The card of an artifact of a run."""
    parts = [
        ("", _about(run, one)),
        ("How it was trained", _training(run)),
        ("Accuracy", _accuracy(run, one)),
        ("Size and speed", _speed(one)),
        ("Limits", _limits(run, one)),
        ("Licence", _licence(run)),
    ]
    lines = [f"# {escaped(run.spec.name)}: {escaped(one.file)}", ""]
    for title, body in parts:
        lines += [*([f"## {title}", ""] if title else []), *body, ""]
    return "\n".join(lines).rstrip() + "\n"


def _about(run: RunData, one: Artifact) -> Iterator[str]:
    spec, kind = run.spec, next(iter(tasks_of(run.spec).values())).model
    sides = " x ".join(map(str, spec.input.size))
    yield f"A {kind} of {spec.classes} classes: {escaped(_classes(spec))}."
    yield ""
    yield f"- Input: RGB image of {sides} pixels{f', as {one.io}' if one.io else ''}"
    if one.recipe:
        calibrated = f", calibrated on {one.calibrated_on} images" if one.calibrated_on else ""
        yield f"- Recipe: {escaped(one.recipe)}{calibrated}"
    if one.consumer:
        yield f"- Made for: {escaped(one.consumer)}"
    yield f"- Try it: `effkeras predict {one.file} IMAGE`"


def _classes(spec: ModelSpec) -> str:
    names = [label_of(spec, index) for index in range(min(spec.classes, _NAMED))]
    return ", ".join(names) + (f" and {spec.classes - _NAMED} more" if spec.classes > _NAMED else "")


def _training(run: RunData) -> Iterator[str]:
    about = run.trained
    data = escaped(Path(about.data).name) if about.data else "not recorded"
    splits = ", ".join(f"{images:,} images of {name}" for name, images in about.splits.items())
    yield f"- Data set: {data}{f' ({splits})' if splits else ''}"
    if run.epochs:
        last = run.epochs[-1]
        steps = f"{last.step:,} steps, " if last.step is not None else ""
        yield f"- Length: {steps}{last.number} epochs"
    yield f"- Started from: {escaped(_start(about.start))}"


def _start(start: str) -> str:
    return "random weights" if start == RANDOM else start or "not recorded"


def _accuracy(run: RunData, one: Artifact) -> Iterator[str]:
    if one.accuracy is None:
        yield f"Accuracy: {MISSING}."
        return
    yield f"Measured on {one.accuracy.images:,} images of {escaped(one.accuracy.split)}."
    yield ""
    yield from _grid(("metric", "float model", "this file"), list(_metric_rows(run, one)))
    if one.drop is not None:
        yield ""
        interval = "" if one.interval is None else f", with 95 % confidence within {within(one.interval)}"
        gain = "; a negative drop is a gain" if one.drop < 0 else ""
        yield f"The drop by compression is {one.drop:.4f} {run.metric}{interval}{gain}."


def _metric_rows(run: RunData, one: Artifact) -> Iterator[tuple[str, ...]]:
    assert one.accuracy is not None
    is_same = run.keras.accuracy and run.keras.accuracy.measured_on == one.accuracy.measured_on
    model = run.keras.accuracy.metrics if run.keras.accuracy and is_same else {}
    classes = run.keras.by_class if is_same else {}
    for name, value in one.accuracy.metrics.items():
        yield name, metric(model.get(name)), metric(value)
    what = {"AP": "AP50"}.get(run.metric, run.metric)
    for label, value in one.by_class.items():
        yield f"{what} of {label}", metric(classes.get(label)), metric(value)


def _speed(one: Artifact) -> Iterator[str]:
    yield f"- File: {size(one.size)}"
    if one.macs is not None:
        yield f"- Multiply-adds: {one.macs / 1e6:,.1f} million"
    if one.delegation:
        yield f"- XNNPACK runs {one.delegation}"
    for each in sorted_measured(one):
        where = each.setting.phone or (each.environment.cpu if each.environment else "an unknown machine")
        time = f"{milliseconds(each.latency.typical_ms)} ms, p95 {milliseconds(each.latency.p95_ms)} ms"
        host = "" if each.setting.phone else f" on {escaped(where)}"
        yield f"- Latency with {escaped(setting_name(each.setting))}{host}: {time}"
    if not one.measured:
        yield f"- Latency: {MISSING}"


def _limits(run: RunData, one: Artifact) -> Iterator[str]:
    if one.accuracy and one.accuracy.images < _FEW:
        yield f"- {one.accuracy.images} images are few: small differences may be chance."
    for label in one.lost:
        yield f"- {escaped(label)} lost a fifth or more of its metric."
    worst = min(one.by_class, key=lambda label: one.by_class[label], default=None)
    if worst is not None and len(one.by_class) > 1:
        yield f"- The weakest class is {escaped(worst)}, {metric(one.by_class[worst])}."
    if one.delegation and one.delegation.delegated_ops is not None and one.left_out:
        outside = one.delegation.total_ops - one.delegation.delegated_ops
        yield f"- {outside} of {one.delegation.total_ops} operators run outside XNNPACK, which costs time."
    yield "- On other cameras, lighting and subjects than those of the data set accuracy is not known."
    yield "- A latency holds for the machine that stands beside it."


def _licence(run: RunData) -> Iterator[str]:
    card = _weights_card(run.spec, run.trained.start)
    if card is not None and card.licence:
        source = f" ({escaped(card.source)})" if card.source else ""
        yield f"- Weights that the training started from: {escaped(card.licence)}{source}"
    elif run.trained.start == RANDOM:
        yield "- Weights: trained from random ones, so only the training data's licence matters."
    else:
        yield "- Weights that the training started from: licence not recorded"
    yield "- Training images: see the licence of the data set."


def _weights_card(spec: ModelSpec, start: str) -> WeightsSpec | None:
    """The published weights of that name, of the model in the zoo or of its backbone; None if unknown."""
    if not start or zoo.definition_path(spec.name) is None:
        return spec.weights.get(start)
    original = zoo.spec(spec.name)
    backbone = None if start in original.weights else backbone_with(original, start)
    return (backbone or original).weights.get(start)


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' :-- |'}{' --: |' * (len(columns) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(escaped, row))} |"
