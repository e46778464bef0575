"""The tables of a report, with every value formatted as text for both Markdown and HTML."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from effkeras.support.measurements import Delegation, Latency
from effkeras.support.pages import MISSING, NOT_REPORTED, Table
from quantize.runs.records import (
    PLAIN,
    XNNPACK,
    Accuracy,
    Artifact,
    Environment,
    Measured,
    RunData,
    Setting,
    metric,
    milliseconds,
    setting_name,
    size,
    sorted_measured,
    within,
)

NOT_APPLICABLE = "-"
SETTINGS = (Setting(XNNPACK, 1), Setting(XNNPACK, 2), Setting(PLAIN, 1))
_MOST_CLASSES = 30  # in the table of classes
_MOST_LAYERS = 20  # in a table of quantization errors
_FIGURES = ("min ms", "median ms", "p95 ms", "mean ms", "runs", "ops delegated", "peak memory")


def artifact_table(run: RunData) -> Table:
    """One row for each artifact: accuracy, size, latency and delegation; without columns nobody measured."""
    times = (f"{setting_name(setting)} (ms)" for setting in SETTINGS[:2])
    columns = ("artifact", run.metric, "drop", "size", "ratio", "drop within", *times)
    columns = (*columns, "multiply-adds", "ops in XNNPACK", "Pareto")
    rows = [_artifact_row(run, one) for one in run.files]
    kept = [
        place
        for place, name in enumerate(columns)
        if name in ("artifact", run.metric, "size") or any(row[place] != MISSING for row in rows[1:])
    ]
    return Table(
        caption="Artifacts",
        columns=tuple(columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
        note=_latency_note(run),
    )


def metric_table(run: RunData) -> Table:
    """Every metric of every artifact; for a detector this includes AP by object size."""
    measured = [one for one in run.files if one.accuracy]
    accuracies = [one.accuracy for one in measured if one.accuracy]
    columns = tuple(dict.fromkeys(name for accuracy in accuracies for name in accuracy.metrics))
    rows = tuple(
        (one.name, *(metric(accuracy.metrics.get(column)) for column in columns), _images(accuracy))
        for one, accuracy in zip(measured, accuracies, strict=True)
    )
    note = "APs, APm and APl are AP for small, medium and large objects." if run.spec.detects else ""
    return Table("All metrics", ("artifact", *columns, "images"), rows, note)


def class_table(run: RunData) -> Table:
    """The metric of each class, of the Keras model beside each artifact; of many classes the worst drops."""
    measured = [one for one in run.files if one.by_class]
    name = {"AP": "AP50"}.get(run.metric, run.metric)
    classes = list(dict.fromkeys(label for one in measured for label in one.by_class))
    note = ""
    if len(classes) > _MOST_CLASSES:

        def lowest(label: str) -> float:
            values = [one.by_class[label] for one in measured if label in one.by_class]
            return min(values) - max(values) if len(values) > 1 else min(values)

        note = f"The {_MOST_CLASSES} of {len(classes)} classes that differ most."
        classes = sorted(classes, key=lowest)[:_MOST_CLASSES]
    rows = tuple((label, *(metric(one.by_class.get(label)) for one in measured)) for label in classes)
    return Table(f"{name} by class", ("class", *(one.name for one in measured)), rows, note)


def confusion_table(run: RunData) -> Table:
    """The most frequent confusions, where there are too many classes for a matrix."""
    details = run.details or {"labels": [], "confusion": []}
    names = details["labels"]
    pairs = [
        (count, names[true], names[found])
        for true, row in enumerate(details["confusion"])
        for found, count in enumerate(row)
        if true != found and count
    ]
    rows = tuple((true, found, f"{count:g}") for count, true, found in sorted(pairs, reverse=True)[:20])
    return Table(
        "Most frequent confusions", ("class", "found as", "count"), rows, words=frozenset({"found as"})
    )


def error_table(run: RunData) -> Table:
    """The kinds of the float model's wrong boxes; without rows for a model that finds none."""
    errors = (run.details or {}).get("errors", ())
    rows = tuple((one.name, f"{one.count:,}", metric(one.ap50_without)) for one in errors)
    note = "What is sure where nothing is labelled is often an object without a label: see the images."
    return Table("Wrong boxes by kind", ("kind", "count", "AP50 without"), rows, note)


def layer_tables(run: RunData) -> tuple[Table, ...]:
    """The largest quantization errors of each artifact whose export compared its layers."""
    note = "The error of an operator's output as a share of its spread in float, on calibration images."
    return tuple(
        Table(
            f"Quantization error by layer: {one.name}",
            ("layer", "operator", "error"),
            tuple((layer.layer, layer.op, f"{layer.error:.4f}") for layer in one.layers[:_MOST_LAYERS]),
            f"{note} The {min(_MOST_LAYERS, len(one.layers))} largest of {len(one.layers)}.",
            words=frozenset({"operator"}),
            folds=True,
        )
        for one in run.artifacts
        if one.layers
    )


def setup_table(setups: Sequence[Environment]) -> Table:
    """Machine and tool versions of the measurements, one column for each setup."""
    tools = dict.fromkeys(tool for setup in setups for tool, _ in setup.versions)
    rows = [
        ("processor", *(setup.cpu for setup in setups)),
        ("cores", *(setup.cores for setup in setups)),
        ("system", *(setup.system for setup in setups)),
        ("Python", *(setup.python for setup in setups)),
    ]
    rows += [(tool, *(dict(setup.versions).get(tool, "unknown") for setup in setups)) for tool in tools]
    columns = ("", *(f"setup {number}" for number, _ in enumerate(setups, start=1)))
    return Table("Versions and machine", columns, tuple(rows))


def latency_table(run: RunData, setups: Sequence[Environment]) -> Table:
    """One row for every latency measured on a computer."""
    rows = tuple(
        (*_cells(artifact, one), _setup(one, setups))
        for artifact, one in _measured(run)
        if not one.setting.phone
    )
    return Table("Latencies", ("artifact", "kernels", "threads", *_FIGURES, "setup"), rows, folds=True)


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
    return Table("Latencies on phones", columns, rows, note, folds=True)


def missing_commands(run: RunData) -> tuple[str, ...]:
    """The commands that produce the missing measurements in the run's tables."""
    return tuple(dict.fromkeys(_missing_commands(run)))


def notes(run: RunData) -> tuple[str, ...]:
    """Notes on refused exports, and on accuracies from different sets of images."""
    found = [
        f"The newest export of {one.name} lost {one.rejected:.4f} {run.metric}, more than it was allowed to, "
        "and was not written."
        for one in run.artifacts
        if one.rejected is not None
    ]
    found += [
        f"{one.name} lost a fifth or more of {' and '.join(one.lost)}." for one in run.artifacts if one.lost
    ]
    images = {one.accuracy.measured_on for one in run.files if one.accuracy}
    if len(images) > 1:
        found.append("Not all accuracies come from the same images: compare within one set only.")
    return tuple(found)


def _artifact_row(run: RunData, one: Artifact) -> tuple[str, ...]:
    score, bytes_ = metric(run.score(one)), size(one.size)
    if one is run.keras:
        bytes_ = bytes_ if one.size else NOT_APPLICABLE
        blank = [NOT_APPLICABLE] * (len(SETTINGS[:2]) + 4)
        return (one.name, score, NOT_APPLICABLE, bytes_, NOT_APPLICABLE, *blank)
    times = (_median(one.latency(setting)) for setting in SETTINGS[:2])
    taken = (one.delegation.percent() or NOT_REPORTED) if one.delegation else MISSING
    return (
        one.name,
        score,
        metric(one.drop),
        bytes_,
        _ratio(run, one),
        within(one.interval),
        *times,
        millions(one.macs) if one.macs is not None and _differ(run, "macs") else MISSING,
        taken,
        _optimal(run, one),
    )


def millions(count: int) -> str:
    """A number of multiply-adds as text, in millions."""
    return f"{count / 1e6:,.1f} M"


def _images(accuracy: Accuracy) -> str:
    return f"{accuracy.images} of {accuracy.split}"


def _ratio(run: RunData, one: Artifact) -> str:
    exported = (other.size for other in run.artifacts if other.recipe == "float32" and other.size)
    reference = next(exported, one.float_size)
    return f"{reference / one.size:.2f}x" if reference and one.size else MISSING


def _median(latency: Latency | None) -> str:
    if latency is None:
        return MISSING
    return f"{milliseconds(latency.median_ms)} / {milliseconds(latency.p95_ms)}"


def _optimal(run: RunData, one: Artifact) -> str:
    fronts = {
        "size": run.best_by_size(),
        "latency": run.best_by_latency(SETTINGS[0]),
        "multiply-adds": run.best_by_macs() if _differ(run, "macs") else (),
        "delegation": run.best_by_delegation() if _differ(run, "left_out") else (),
    }
    marks = [name for name, files in fronts.items() if one.file in files]
    return ", ".join(marks) if marks else ("no" if run.score(one) is not None else MISSING)


def _differ(run: RunData, cost: str) -> bool:
    """Whether two measured artifacts differ in a cost; else its front says nothing."""
    return len({getattr(one, cost) for one in run.artifacts if run.score(one) is not None} - {None}) > 1


def _latency_note(run: RunData) -> str:
    shown = (one.latency(setting) for one in run.artifacts for setting in SETTINGS)
    counts = sorted({latency.runs for latency in shown if latency})
    setting = setting_name(SETTINGS[0])
    best = f"Pareto: the costs by which it is on the front; latency is that with {setting}."
    if not counts:
        return f"Latencies: {MISSING}. {best}"
    runs = " or ".join(map(str, counts))
    times = (
        f"Latencies: median / 95th percentile of {runs} single inferences; the whole of each measurement, "
    )
    return f"{times}with versions and machine, stands below. {best}"


def _missing_commands(run: RunData) -> Iterator[str]:
    data = f"--data {_quoted([run.trained.data])}" if run.trained.data else "--data DIR"
    if run.score(run.keras) is None:
        yield f"effkeras eval {_quoted([run.folder])} {data}"
    for one in run.artifacts:
        file = run.folder / "artifacts" / one.file
        if one.size is None:
            yield f"effkeras export tflite {_quoted([run.folder])} --recipe {one.recipe} {data}"
        elif run.score(one) is None:
            yield f"effkeras eval {_quoted([file])} {data}"
        elif one.drop is None and one.accuracy:
            chosen = _quoted(["--split", one.accuracy.split, "--limit", one.accuracy.images])
            yield f"effkeras eval {_quoted([run.folder])} {data} {chosen}"
    untimed = [one for one in run.artifacts if not all(map(one.latency, SETTINGS))]
    if untimed:
        yield f"effkeras export bench {_quoted(run.folder / 'artifacts' / one.file for one in untimed)}"


def _quoted(words: Iterable[object]) -> str:
    return shlex.join(map(str, words))


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
