"""Reads the results.jsonl of a run folder into the records of a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.graph.counting import count
from effkeras.inference.evaluate import headline
from effkeras.inference.evaluation_files import FOLDER, SHEETS, read_details
from effkeras.support import results
from effkeras.support.errors import OF_DAMAGE, EffkerasError
from effkeras.support.measurements import Delegation, Latency
from effkeras.support.results import CheckedRow, Row, is_number
from effkeras.support.tables import read_toml
from effkeras.training.run import Run
from quantize.formats import names
from quantize.runs.records import (
    KERAS,
    USUAL,
    XNNPACK,
    Accuracy,
    Artifact,
    Environment,
    Epoch,
    LayerError,
    Measured,
    RunData,
    Setting,
    Trained,
)


def read_run(folder: Path, samples: int) -> RunData:
    """Reads a run folder, with up to `samples` of its drawn images.

    The newest row for an artifact and setting counts. A recipe of `USUAL` without an artifact appears as an
    artifact without measurements.

    Raises EffkerasError when it is no run folder, or its results are missing or broken.
    """
    run = Run(folder)
    if not run.definition.is_file():
        raise EffkerasError(
            f"{folder} is no run folder: it has no model.toml; give the --out of `effkeras train`"
        )
    spec = spec_from_table(read_toml(run.definition), str(run.definition))
    rows = _rows(run)
    floats = _float_accuracies(rows)
    artifacts = [_with_drop(one, floats, headline(spec)) for one in _artifacts(rows)]
    artifacts = [_with_file(one, run.artifacts) for one in artifacts]
    size = run.model.stat().st_size if run.model.is_file() else None
    return RunData(
        folder=folder,
        spec=spec,
        keras=replace(_float_model(floats, artifacts), size=size),
        artifacts=tuple(_sorted(_complete(artifacts))),
        epochs=_epochs(rows),
        samples=_samples(folder / "samples", samples),
        details=read_details(folder),
        sheets=_sheets(folder),
        trained=_trained(run),
    )


def read_export(row: Row, spec: ModelSpec, folder: Path) -> RunData:
    """What the row of one export tells, as that of a run without anything else."""
    rows = [CheckedRow(row, "the export")]
    floats = _float_accuracies(rows)
    artifacts = [_with_file(_with_drop(one, floats, headline(spec)), folder) for one in _artifacts(rows)]
    return RunData(folder, spec, _float_model(floats, artifacts), tuple(artifacts))


def _rows(run: Run) -> list[CheckedRow]:
    """The rows of a run. Raises EffkerasError if there are none, or a line is not one JSON object."""
    file = run.results
    rows = results.read(file) if file.is_file() else []
    if rows:
        return [CheckedRow(row, str(file)) for row in rows]
    what = f"{file} is empty" if file.is_file() else f"{run.folder} has no results yet"
    if run.checkpoint.is_file() or run.model.is_file():
        raise EffkerasError(f"{what}; `effkeras eval {run.folder} --data DIR` makes some")
    raise EffkerasError(
        f"{what}: its training ended before the first validation; the `effkeras train` that began it goes on"
    )


def _artifacts(rows: Iterable[CheckedRow]) -> list[Artifact]:
    """Every artifact; later rows update the values of earlier ones."""
    readers = {"export": _exported, "savedmodel": _saved, "eval": _evaluated, "latency": _timed}
    readers["compression"] = _compressed
    readers["delegate-latency"] = _timed  # the former name of rows of delegates
    known: dict[str, Artifact] = {}
    for row in rows:
        if row.kind not in readers or (row.kind == "compression" and not row.has("artifact")):
            continue  # older rows of compressions do not name the file
        file = row.text("artifact")
        if file != KERAS:
            known[file] = readers[row.kind](known.get(file, Artifact(file, _recipe_in(file))), row)
    return list(known.values())


def _recipe_in(file: str) -> str:
    """The recipe in an artifact's default file name, for artifacts without an export row."""
    stem = file.removesuffix(".tflite")
    return next((recipe for recipe in names() if stem == recipe or stem.startswith(f"{recipe}-")), "")


def _exported(before: Artifact, row: CheckedRow) -> Artifact:
    """A new artifact without the measurements of the file that it replaces; a refused export keeps these."""
    if row.values.get("passed") is False:
        decided = "validated_drop" if row.has("validated_drop") else "drop"
        return replace(before, recipe=row.text("recipe"), rejected=row.number_or_none(decided))
    return Artifact(
        file=before.file,
        recipe=row.text("recipe"),
        io=row.text("io"),
        size=row.whole("bytes"),
        accuracy=_accuracy(row, "artifact_metrics") if row.has("artifact_metrics") else None,
        delegation=Delegation.from_row(row),
        environment=_environment(row),
        by_class=_class_values(row, "artifact_classes"),
        interval=_interval(row),
        consumer=row.text("for") if row.has("for") else "",
        calibrated_on=row.whole_or_none("calibration_images") or 0,
        lost=tuple(map(str, row.items("lost_classes"))),
        float_size=_float_size(row),
    )


def _float_size(row: CheckedRow) -> int | None:
    """The bytes of float32 among the files that an export was compared with."""
    for one in row.items("beside"):
        if isinstance(one, dict) and one.get("artifact") == "float32" and is_number(one.get("bytes")):
            return int(one["bytes"])
    return None


def _interval(row: CheckedRow) -> tuple[float, float] | None:
    """The interval of the drop, of rows that have one."""
    ends = row.values.get("interval")
    if not (isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))):
        return None
    return float(ends[0]), float(ends[1])


def _compressed(before: Artifact, row: CheckedRow) -> Artifact:
    """The artifact of `effkeras quantize`."""
    if row.values.get("passed") is False:
        return replace(before, rejected=row.number_or_none("validated_drop"))
    return Artifact(
        file=before.file,
        recipe=str(row.table("recipe").get("name", "")),
        io=row.text("io") if row.has("io") else "",
        size=row.whole("bytes"),
        accuracy=_of_compression(row, "artifact_metrics", "after"),
        delegation=Delegation.from_row(row),
        environment=_environment(row),
        by_class=_class_values(row, "artifact_classes"),
        interval=_interval(row),
        calibrated_on=row.whole_or_none("calibration_images") or 0,
        lost=tuple(map(str, row.items("lost_classes"))),
        float_size=_float_size(row),
    )


def _of_compression(row: CheckedRow, key: str, main: str) -> Accuracy:
    """The accuracy in the metrics at `key`; rows of earlier versions have the main metric only, at `main`."""
    if row.has(key):
        return _accuracy(row, key)
    return Accuracy({row.text("metric"): row.number(main)}, row.text("split"), row.whole("images"))


def _saved(before: Artifact, row: CheckedRow) -> Artifact:
    """A new SavedModel, without the measurements of the one that it replaces."""
    return Artifact(before.file, size=row.whole("bytes"), environment=_environment(row))


def _evaluated(before: Artifact, row: CheckedRow) -> Artifact:
    accuracy = _accuracy(row, "metrics")
    is_same = before.accuracy is not None and before.accuracy.measured_on == accuracy.measured_on
    return replace(
        before,
        accuracy=accuracy,
        interval=before.interval if is_same else None,
        environment=_environment(row),
        by_class=_class_values(row, "by_class"),
    )


def _timed(before: Artifact, row: CheckedRow) -> Artifact:
    latency = Latency.from_row(row)
    tool = row.text("benchmark_version") if row.has("benchmark_version") else ""
    setting = Setting(latency.kernels, latency.threads, _phone(row))
    others = tuple(one for one in before.measured if one.setting != setting)
    by_xnnpack = latency.kernels == XNNPACK and not setting.is_delegate
    return replace(
        before,
        size=row.whole("bytes") if row.has("bytes") else before.size,
        delegation=latency.delegation if by_xnnpack else before.delegation,
        measured=(*others, Measured(setting, latency, _environment(row), tool)),
    )


def _phone(row: CheckedRow) -> str:
    """The phone, such as "Pixel 6, Android 14, Tensor", or its serial number if nothing else is known."""
    phone = {key: " ".join(str(value).split()) for key, value in row.table("phone").items() if value}
    android = f"Android {phone['android']}" if "android" in phone else ""
    words = (phone.get("model"), android, phone.get("chip") or phone.get("platform"))
    return ", ".join(filter(None, words)) or (row.text("serial") if row.has("serial") else "")


def _accuracy(row: CheckedRow, key: str) -> Accuracy:
    return Accuracy(row.numbers(key), row.text("split"), row.whole("images"))


def _class_values(row: CheckedRow, key: str) -> dict[str, float]:
    """The main metric of each class: a number, or one in the class's table."""
    found: dict[str, float] = {}
    for label, value in row.table(key).items():
        values = value if isinstance(value, dict) else {"": value}
        number = next(
            (values[name] for name in ("", "AP50", "top1", "IoU") if is_number(values.get(name))), None
        )
        if number is not None:
            found[label] = float(number)
    return found


def _environment(row: CheckedRow) -> Environment | None:
    environment = row.values.get("environment")
    if not isinstance(environment, dict):
        return None
    machine, versions = _table(environment.get("machine")), _table(environment.get("versions"))
    return Environment(
        python=str(environment.get("python", "unknown")),
        versions=tuple((str(tool), str(version)) for tool, version in versions.items()),
        cpu=str(machine.get("cpu", "unknown")),
        cores=str(machine.get("cores", "unknown")),
        system=str(machine.get("system", "unknown")),
    )


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class _Float:
    """A measurement of the Keras float model."""

    accuracy: Accuracy
    environment: Environment | None
    by_class: Mapping[str, float]


def _float_accuracies(rows: Iterable[CheckedRow]) -> dict[tuple[str, int], _Float]:
    """The newest accuracy of the Keras model for each split and number of images, the newest last."""
    found: dict[tuple[str, int], _Float] = {}
    for row in rows:
        if row.kind == "eval" and row.text("artifact") == KERAS:
            accuracy = _accuracy(row, "metrics")
            classes: Mapping[str, float] = _class_values(row, "by_class")
        elif row.kind == "export" and row.has("float_metrics"):
            accuracy, classes = _accuracy(row, "float_metrics"), _class_values(row, "float_classes")
        elif row.kind == "compression" and row.has("artifact"):
            accuracy = _of_compression(row, "float_metrics", "before")
            classes = _class_values(row, "float_classes")
        else:
            continue
        before = found.pop(accuracy.measured_on, None)
        if before and accuracy.metrics.items() <= before.accuracy.metrics.items():
            accuracy = before.accuracy  # an export measures less of the same model than eval
        classes = classes or (before.by_class if before else {})
        found[accuracy.measured_on] = _Float(accuracy, _environment(row), classes)
    return found


def _with_drop(artifact: Artifact, floats: Mapping[tuple[str, int], _Float], metric: str) -> Artifact:
    """The artifact with its drop against the Keras model on the same images, if both were measured."""
    if artifact.accuracy is None or artifact.accuracy.measured_on not in floats:
        return artifact
    before = floats[artifact.accuracy.measured_on].accuracy.metrics.get(metric)
    after = artifact.accuracy.metrics.get(metric)
    return artifact if before is None or after is None else replace(artifact, drop=before - after)


def _with_file(artifact: Artifact, folder: Path) -> Artifact:
    """The artifact with what its own files tell, where they are still there and whole."""
    file = folder / artifact.file
    if file.name != artifact.file:  # it leads elsewhere
        return artifact
    return replace(artifact, macs=_macs_in(file), layers=_layers_beside(file))


def _macs_in(file: Path) -> int | None:
    """The multiply-adds of the network in a .tflite; None if only building it would tell."""
    if file.suffix != ".tflite" or not file.is_file():
        return None
    from effkeras.litert.runner import definition_of

    try:
        spec = definition_of(file.read_bytes())
    except (EffkerasError, OSError):
        return None
    return None if spec.network.needs_model else count(spec).macs


def _layers_beside(file: Path) -> tuple[LayerError, ...]:
    """The errors that `export tflite --compare-layers` left in the .json beside a file, largest first."""
    try:
        rows = json.loads(file.with_suffix(".json").read_text(encoding="utf-8")).get("layers", [])
        found = [
            LayerError(str(one["layer"]), str(one["op"]), float(one["error"]), int(one.get("place", 0)))
            for one in rows
        ]
    except OF_DAMAGE:
        return ()
    return tuple(sorted(found, key=lambda one: -one.error))


def _trained(run: Run) -> Trained:
    """What the run folder keeps of the training; parts that are missing or damaged are left out."""
    try:
        settings = run.kept_settings()
        kept = read_toml(run.data) if run.data.is_file() else {}
    except EffkerasError:
        return Trained()
    counts = {name: _table(one).get("images") for name, one in _table(kept.get("splits")).items()}
    splits = {name: count for name, count in counts.items() if isinstance(count, int)}
    steps, epochs = (settings.steps, settings.epochs) if settings else (None, None)
    return Trained(str(kept.get("data", "")), splits, steps, epochs, str(kept.get("start", "")))


def _float_model(floats: Mapping[tuple[str, int], _Float], artifacts: Sequence[Artifact]) -> Artifact:
    """The Keras model, with its accuracy on the images that most artifacts were measured on."""
    if not floats:
        return Artifact(KERAS)
    used = Counter(one.accuracy.measured_on for one in artifacts if one.accuracy)
    newest_first = list(floats)[::-1]
    chosen = floats[max(newest_first, key=lambda images: used[images])]
    return Artifact(KERAS, accuracy=chosen.accuracy, environment=chosen.environment, by_class=chosen.by_class)


def _complete(artifacts: Sequence[Artifact]) -> list[Artifact]:
    there = {one.recipe for one in artifacts}
    missing = [Artifact(f"{recipe}.tflite", recipe) for recipe in USUAL if recipe not in there]
    return [*artifacts, *missing]


def _sorted(artifacts: Iterable[Artifact]) -> list[Artifact]:
    order = {recipe: position for position, recipe in enumerate(names())}
    return sorted(artifacts, key=lambda one: (order.get(one.recipe, len(order)), one.io, one.file))


def _epochs(rows: Iterable[CheckedRow]) -> tuple[Epoch, ...]:
    """The validations of the training in order; of a repeated one the newest row counts."""
    found = {}
    for row in rows:
        if row.kind == "epoch":
            # Diverged training has a NaN loss; the other values are still valid.
            loss = float(row.values["loss"]) if is_number(row.values.get("loss")) else None
            metrics = row.numbers("metrics") if row.has("metrics") else {}
            one = Epoch(row.whole("epoch"), loss, metrics, row.whole_or_none("step"))
            found[one.number, one.step or 0] = one
    return tuple(found[place] for place in sorted(found))


def _sheets(folder: Path) -> tuple[Path, ...]:
    files = (folder / FOLDER / f"{name}.png" for name in SHEETS)
    return tuple(file for file in files if file.is_file())


def _samples(folder: Path, most: int) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.png"))[:most])
