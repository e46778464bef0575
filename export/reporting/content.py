"""The content of a report: its texts, the order of sections, tables and charts, and its figures as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from effkeras.graph.counting import count
from effkeras.graph.vocabulary import Counts
from effkeras.inference.evaluation_files import SHEETS
from effkeras.inference.task import Task, tasks_of
from effkeras.support.errors import EffkerasError
from effkeras.support.pages import MISSING, Page, Section, Sheet
from export.reporting.panels import draw_charts, draw_details, labels
from export.reporting.tables import (
    SETTINGS,
    artifact_table,
    class_table,
    confusion_table,
    error_table,
    latency_table,
    layer_tables,
    metric_table,
    missing_commands,
    notes,
    phone_table,
    setup_table,
)
from quantize.runs.records import Artifact, Environment, Epoch, RunData, setting_name, size

METHOD = (
    "The Keras float model and every artifact go through the same code: the same images, resized and "
    "normalised the same way, and the same metric.",
    "Drop is the Keras float model's figure minus the artifact's on the same images; negative is a gain.",
    "Ratio is the size of the float32 .tflite divided by the artifact's. 1 kB is 1000 bytes.",
    "A latency is the time of one inference on one image, without reading, resizing and decoding of boxes. "
    "Files and settings that are measured together take turns, after untimed runs, so that whatever else "
    "the machine does hits all alike. XNNPACK is the fast CPU path that LiteRT takes by itself; plain "
    "kernels run without it. Compiled is LiteRT's CompiledModel; its time includes writing the input and "
    "reading the outputs.",
    "Ops in XNNPACK: how many of the graph's operators it runs, and in how many partitions. All of them in "
    "one partition means that nothing goes back and forth. Ops delegated: the same of whatever ran the "
    "file. Peak memory is what file and delegate add to their process at most.",
    "Pareto: an artifact is marked when no other of the same run is at least as accurate and smaller, or as "
    "small and more accurate; likewise for the other costs.",
    "Precision, recall and F1 are at IoU 0.5. In the confusion matrix a row is a true class and a column "
    "what was found, at the threshold. Background is a detection where there is nothing, in its row, and an "
    "object that was not found, in its column. The best and worst images have the highest and lowest F1 of "
    "their boxes. A wrong box is of one kind: IoU 0.5 or more with an object of another class, or with one "
    "that a surer box found; 0.1 or more with an object of its class, or of another; or less with all (Bolya "
    "et al. 2020). AP50 without is that of all other boxes.",
    "Of several measurements of the same artifact under the same setting the newest counts. A new export "
    "outdates what was measured of the file before it.",
)
_CLOSE = 0.01  # of the metric: what a file may lose to be named at the top
_STOPPED = (
    "The training stopped after {done} of {asked}; the figures are those of its best validation until then. "
    "The same effkeras train goes on."
)
LIMITS = (
    "Latencies are those of the machine or phone that stands beside them, with all that ran on it meanwhile. "
    "They put artifacts in order; they do not tell how fast another phone is. Measure there before deciding: "
    "effkeras export bench FILE --adb.",
    "Accuracy holds for these images: the fewer they are, the more of a small difference is chance.",
)


def page_of(runs: Sequence[RunData], first: Sequence[Section] = ()) -> Page:
    """The content of a report on runs, with the sections `first` before theirs.

    Raises EffkerasError when the runs have different metrics.
    """
    _check_metrics(runs)
    setups = _setups(runs)
    names = labels(runs)
    return Page(
        title=", ".join(dict.fromkeys(run.spec.name for run in runs)),
        intro=_intro(runs),
        highlights=tuple(_highlights(runs[0])) if len(runs) == 1 else (),
        overview=draw_charts(runs),
        sections=(
            *first,
            *(
                _section(name, run, setups, place if len(runs) > 1 else 0)
                for place, (name, run) in enumerate(zip(names, runs, strict=True), start=1)
            ),
        ),
        reading=(_task(runs).meaning, *METHOD),
        limits=LIMITS,
        setups=setup_table(setups),
    )


def _check_metrics(runs: Sequence[RunData]) -> None:
    first = runs[0]
    other = next((run for run in runs if run.metric != first.metric), None)
    if other:
        raise EffkerasError(
            f"{first.folder} is judged by {first.metric} and {other.folder} by {other.metric}; "
            "report on detectors and on classifiers separately"
        )


def _task(runs: Sequence[RunData]) -> Task:
    """The task that the runs are judged by: the first of their models."""
    return next(iter(tasks_of(runs[0].spec).values()))


def _intro(runs: Sequence[RunData]) -> str:
    kind = _task(runs).model
    what = f"this {kind}" if len(runs) == 1 else f"{len(runs)} trained {kind}s"
    return f"Accuracy, size and speed of {what} in Keras and as .tflite files."


def _section(name: str, run: RunData, setups: Sequence[Environment], place: int) -> Section:
    charts = draw_details(run, place)
    confusions = () if any(one.name.startswith("confusion") for one in charts) else (confusion_table(run),)
    tables = (artifact_table(run), class_table(run), metric_table(run), error_table(run), *confusions)
    folded = (*layer_tables(run), latency_table(run, setups), phone_table(run, setups))
    return Section(
        title=f"Run {name}",
        facts=tuple(_facts(run)),
        warns=(*_unfinished(run), *notes(run)),
        tables=tuple(table for table in (*tables, *folded) if table.rows),
        commands=missing_commands(run),
        samples=run.samples,
        charts=charts,
        sheets=tuple(_sheets(run)),
    )


def _sheets(run: RunData) -> Iterator[Sheet]:
    yield from run.comparisons
    for path in run.sheets:
        title = SHEETS[path.stem]
        yield Sheet(title, path, f"{title}; boxes and class names of the float model")


def _unfinished(run: RunData) -> Iterator[str]:
    """A warning where the training stopped before the length that it was given."""
    last, asked = run.epochs[-1] if run.epochs else None, run.trained
    if last and asked.steps and last.step is not None and last.step < asked.steps:
        yield _STOPPED.format(done=f"{last.step:,}", asked=f"{asked.steps:,} steps")
    elif last and asked.epochs and last.number < asked.epochs:
        yield _STOPPED.format(done=str(last.number), asked=f"{asked.epochs} epochs")


def _highlights(run: RunData) -> Iterator[tuple[str, str]]:
    """The float model, and the smallest file that keeps its metric; without one, the best on the front."""
    score = run.score(run.keras)
    if score is not None:
        yield f"{run.metric} of the float model", f"{score:.3f}"
    front = [one for one in run.artifacts if one.file in run.best_by_size()]
    close = [one for one in front if one.drop is not None and one.drop <= _CLOSE]
    if not front:
        return
    one = (
        min(close, key=lambda one: one.size or 0)
        if close
        else max(front, key=lambda one: run.score(one) or 0)
    )
    yield (
        (f"smallest file that lost at most {_CLOSE}" if close else "best file"),
        f"{one.name}, {size(one.size)}",
    )
    yield f"its {run.metric}{_on_others(run, one)}", f"{run.score(one):.3f}"
    latency = one.latency(SETTINGS[0])
    if latency:
        yield f"its latency with {setting_name(SETTINGS[0])}", f"{latency.typical_ms:.2f} ms"


def _on_others(run: RunData, one: Artifact) -> str:
    """Says that a file was measured on other images than the float model; "" if it was not."""
    theirs, own = run.keras.accuracy, one.accuracy
    if theirs is None or own is None or theirs.measured_on == own.measured_on:
        return ""
    return f" on {own.images} images of {own.split}"


def _facts(run: RunData) -> Iterator[tuple[str, str]]:
    counts = _counts(run)
    yield "Model", run.spec.name
    yield "Input", " x ".join(map(str, run.spec.input.size)) + " pixels"
    yield "Classes", str(run.spec.classes)
    yield "Parameters", f"{counts.trainable:,}"
    yield "Multiply-adds", f"{counts.macs / 1e6:,.1f} million"
    yield "Measured on", _images(run)
    if run.trained.splits:
        yield "Trained on", ", ".join(f"{images:,} of {name}" for name, images in run.trained.splits.items())
    if run.trained.start:
        yield "Started from", run.trained.start
    yield "Training", _trained(run.epochs[-1]) if run.epochs else "not recorded"
    yield "Folder", str(run.folder)


def _counts(run: RunData) -> Counts:
    if not run.spec.network.needs_model:
        return count(run.spec)
    from effkeras.graph.keras_counting import count_layers  # needs Keras
    from effkeras.weights.keras_files import load

    return count_layers(load(run.folder))


def _images(run: RunData) -> str:
    accuracies = [one.accuracy for one in run.files if one.accuracy]
    splits = dict.fromkeys(f"{one.images} images of {one.split}" for one in accuracies)
    return "; ".join(splits) or MISSING


def _setups(runs: Sequence[RunData]) -> list[Environment]:
    """Every environment of a measurement, without duplicates."""
    found: dict[Environment, None] = {}
    for run in runs:
        for one in run.files:
            stamps = [one.environment, *(other.environment for other in one.measured)]
            found.update(dict.fromkeys(stamp for stamp in stamps if stamp))
    return list(found)


def _trained(last: Epoch) -> str:
    epochs = f"{last.number} epoch" if last.number == 1 else f"{last.number} epochs"
    return epochs if last.step is None else f"{last.step:,} steps, {epochs}"


def csv_of(runs: Sequence[RunData]) -> str:
    """A line for the Keras model and for each artifact of the runs; what was not measured is empty."""
    rows = [_row(run, one) for run in runs for one in run.files]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _row(run: RunData, one: Artifact) -> dict[str, Any]:
    low, high = one.interval or (None, None)
    row: dict[str, Any] = {
        "run": run.name,
        "file": one.file,
        "recipe": one.recipe,
        "for": one.consumer,
        "bytes": one.size,
        "multiply_adds": one.macs,
        "split": one.accuracy.split if one.accuracy else None,
        "images": one.accuracy.images if one.accuracy else None,
        "drop": one.drop,
        "drop_low": low,
        "drop_high": high,
        "total_ops": one.delegation.total_ops if one.delegation else None,
        "xnnpack_ops": one.delegation.delegated_ops if one.delegation else None,
        "partitions": one.delegation.partitions if one.delegation else None,
        "on_size_front": one.file in run.best_by_size(),
    }
    row |= dict(one.accuracy.metrics) if one.accuracy else {}
    row |= {f"class {label}": value for label, value in one.by_class.items()}
    row |= {f"median ms, {setting_name(each.setting)}": each.latency.median_ms for each in one.measured}
    return row
