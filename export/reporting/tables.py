"""The tables of a report, with every value formatted as text for both Markdown and HTML."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from effkeras.support.measurements import Delegation, Latency
from effkeras.support.pages import MISSING, NOT_REPORTED, Table
from export.reporting.data import (
    PLAIN,
    XNNPACK,
    Accuracy,
    Artifact,
    Environment,
    Measured,
    RunData,
    Setting,
)

NOT_APPLICABLE = "-"
SETTINGS = (Setting(XNNPACK, 1), Setting(XNNPACK, 2), Setting(PLAIN, 1))
_MOST_CLASSES = 30  # in the table of classes
_FIGURES = ("min ms", "median ms", "p95 ms", "mean ms", "runs", "ops delegated", "peak memory")


def artifact_table(run: RunData) -> Table:
    """One row for each artifact: accuracy, size, latency and delegation."""
    times = (f"{setting_name(setting)} (ms)" for setting in SETTINGS)
    columns = ("artifact", run.metric, "drop", "size", "ratio", *times)
    return Table(
        caption="Artifacts",
        columns=(*columns, "ops in XNNPACK", "Pareto"),
        rows=tuple(_artifact_row(run, one) for one in (run.keras, *run.artifacts)),
        note=_latency_note(run),
    )


def metric_table(run: RunData) -> Table:
    """Every metric of every artifact; for a detector this includes AP by object size."""
    measured = [one for one in (run.keras, *run.artifacts) if one.accuracy]
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
    measured = [one for one in (run.keras, *run.artifacts) if one.by_class]
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
    return Table("Latencies", ("artifact", "kernels", "threads", *_FIGURES, "setup"), rows)


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
    return Table("Latencies on phones", columns, rows, note)


def sorted_measured(artifact: Artifact) -> list[Measured]:
    """The measurements in order: XNNPACK, plain kernels, then delegates; few threads before many."""

    def order(one: Measured) -> tuple[bool, bool, Setting]:
        return one.setting.is_delegate, one.setting.kernels != XNNPACK, one.setting

    return sorted(artifact.measured, key=order)


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
    images = {one.accuracy.measured_on for one in (run.keras, *run.artifacts) if one.accuracy}
    if len(images) > 1:
        found.append("Not all accuracies come from the same images: compare within one set only.")
    return tuple(found)


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


def _artifact_row(run: RunData, one: Artifact) -> tuple[str, ...]:
    score, bytes_ = metric(run.score(one)), size(one.size)
    if one is run.keras:
        bytes_ = bytes_ if one.size else NOT_APPLICABLE
        return (one.name, score, NOT_APPLICABLE, bytes_, *[NOT_APPLICABLE] * (len(SETTINGS) + 3))
    times = (_median(one.latency(setting)) for setting in SETTINGS)
    taken = (one.delegation.percent() or NOT_REPORTED) if one.delegation else MISSING
    return (one.name, score, metric(one.drop), bytes_, _ratio(run, one), *times, taken, _optimal(run, one))


def _images(accuracy: Accuracy) -> str:
    return f"{accuracy.images} of {accuracy.split}"


def _ratio(run: RunData, one: Artifact) -> str:
    reference = next(
        (other.size for other in run.artifacts if other.recipe == "float32" and other.size), None
    )
    return f"{reference / one.size:.2f}x" if reference and one.size else MISSING


def _median(latency: Latency | None) -> str:
    if latency is None:
        return MISSING
    return f"{milliseconds(latency.median_ms)} / {milliseconds(latency.p95_ms)}"


def _optimal(run: RunData, one: Artifact) -> str:
    marks = ["size"] if one.file in run.best_by_size() else []
    if one.file in run.best_by_latency(SETTINGS[0]):
        marks.append("latency")
    return ", ".join(marks) if marks else ("no" if run.score(one) is not None else MISSING)


def _latency_note(run: RunData) -> str:
    shown = (one.latency(setting) for one in run.artifacts for setting in SETTINGS)
    counts = sorted({latency.runs for latency in shown if latency})
    best = f"Pareto: best by size, or by latency with {setting_name(SETTINGS[0])}."
    if not counts:
        return f"Latencies: {MISSING}. {best}"
    runs = " or ".join(map(str, counts))
    times = (
        f"Latencies: median / 95th percentile of {runs} single inferences; the whole of each measurement, "
    )
    return f"{times}with versions and machine, stands below. {best}"


def _missing_commands(run: RunData) -> Iterator[str]:
    if run.score(run.keras) is None:
        yield f"effkeras eval {_quoted([run.folder])} --data DIR"
    for one in run.artifacts:
        file = run.folder / "artifacts" / one.file
        if one.size is None:
            yield f"effkeras export tflite {_quoted([run.folder])} --recipe {one.recipe} --data DIR"
        elif run.score(one) is None:
            yield f"effkeras eval {_quoted([file])} --data DIR"
        elif one.drop is None and one.accuracy:
            chosen = _quoted(["--split", one.accuracy.split, "--limit", one.accuracy.images])
            yield f"effkeras eval {_quoted([run.folder])} --data DIR {chosen}"
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
