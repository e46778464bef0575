"""`effkeras eval MODEL --data DIR`: computes the same metrics for a model and its artifacts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.commands.foreign_options import add_foreign, foreign_options
from effkeras.data.records import ReadOptions
from effkeras.data.splits import VALIDATION, default_split, read_split
from effkeras.inference.threshold import Threshold, threshold_for, threshold_of
from effkeras.support import results
from effkeras.support.console import hint, note, result, run_command, table
from effkeras.support.files import folder_with
from effkeras.support.options import (
    ANY_HELP,
    Verb,
    above_zero,
    add_data,
    add_json,
    add_split,
    add_weights,
    parser,
)
from effkeras.training.run import kept_options

if TYPE_CHECKING:
    from effkeras.inference.task import Breakdown, Details

VERB = Verb("eval", "measure a run, a .keras file or an artifact")
_WORST = 10  # classes that a table of the worst shows
_COUNTS = ("boxes", "images")
_ABOUT = """Measures a model on labelled images: COCO metrics, mIoU or accuracy, and each class alone.
Precision, recall and F1 of a detector hold at one score for all classes and IoU 0.5. On the split val it is
the score with the best F1 over all classes, which a run folder keeps and `predict` uses; on other images it
is the score kept with the run or the file, or else the best again."""


@dataclass(frozen=True, slots=True)
class _Model:
    """The run folder that keeps the results of a model (None without one), and its file there.

    `is_trained` tells that it is the run's trained model, and no artifact.
    """

    run: Path | None
    file: str
    is_trained: bool = False

    @classmethod
    def of(cls, source: str) -> _Model:
        """The run is a run folder itself, or holds a .keras file, or an artifact in RUN/artifacts."""
        path = Path(source)
        if (path / "model.toml").is_file():
            return cls(path, "model.keras", True)
        run = folder_with(path, "model.toml")
        return cls(run, path.name, run is not None and path.resolve() == (run / "model.keras").resolve())


def main(argv: Sequence[str] | None = None) -> int:
    """Measures a model."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = parser(VERB.name, _ABOUT)
    options.add_argument("model", help=ANY_HELP)
    add_weights(options)
    add_data(options)
    add_split(options)
    options.add_argument("--limit", type=above_zero, help="measure on the first LIMIT images only")
    add_foreign(options)
    add_json(options)
    chosen = options.parse_args(argv)
    reading = ReadOptions(skip_bad=chosen.skip_bad, one_based=chosen.one_based)
    reading = kept_options(chosen.model, chosen.data, reading)
    split = chosen.split or default_split(chosen.data)
    data = read_split(chosen.data, split, reading)

    from effkeras.inference.evaluate import evaluate_in_detail
    from effkeras.inference.evaluation_files import Measured, keep_details, missing_labels
    from effkeras.inference.predictor import open_predictor

    described = replace(foreign_options(chosen), data_labels=tuple(data.labels))
    predictor = open_predictor(chosen.model, chosen.weights, described)
    if predictor.spec.segments:
        data = read_split(chosen.data, split, replace(reading, masks=True))
    evaluation = evaluate_in_detail(predictor, data, limit=chosen.limit)
    count = min(len(data.records), chosen.limit or len(data.records))
    chooses = split.casefold().startswith(VALIDATION)
    kept = None if chooses else threshold_for(chosen.model, predictor)
    breakdowns = evaluation.breakdowns(kept.score if kept else None)
    metrics = evaluation.metrics | {
        name: value for one in breakdowns.values() for name, value in one.overall.items()
    }
    rows = [[name, f"{value:.4f}"] for name, value in metrics.items()]
    table(f"{chosen.model} on {count} {split} images", ["metric", "value"], rows)
    for one in breakdowns.values():
        _show_classes(one, metrics, kept)
    model = _Model.of(chosen.model)
    best = threshold_of(breakdowns, split, count)
    if best and chooses and chosen.limit is None and model.run and model.is_trained:
        best.save(model.run)
        note(f"{model.run} keeps the threshold {best.score:.4g} for `effkeras predict`")
    if model.run and model.is_trained:
        details = next(iter(evaluation.judges.values())).details(best.score if best else None)
        keep_details(details, Measured(split, count, best.score if best else None), model.run)
        _show_errors(details)
        for line in missing_labels(details, model.run):
            note(line)
    of_threshold = {} if best is None else {"threshold": asdict(kept or best)}
    row = {"kind": "eval", "artifact": model.file, "split": split, "images": count, "metrics": metrics}
    row |= {**of_threshold, "by_class": _by_class(breakdowns)}
    result(row)
    if model.run:
        results.append(model.run / "results.jsonl", [results.stamped(row)])
    if model.run and model.is_trained:
        data_words = ["--recipe", "int8", "--data", str(chosen.data)]
        hint(shlex.join(["effkeras", "export", "tflite", str(chosen.model), *data_words]))


def _show_classes(found: Breakdown, metrics: Mapping[str, float], kept: Threshold | None) -> None:
    """Prints the table of the classes, or of the worst classes of a task with very many."""
    if not found.classes:
        return
    columns = list(dict.fromkeys(name for row in found.classes.values() for name in row))
    shown = list(found.classes.items())
    title = "by class"
    if found.worst:
        shown = sorted(shown, key=lambda one: one[1][found.worst])[:_WORST]
        title = f"the {len(shown)} classes with the lowest {found.worst}"
    elif "F1" in metrics:
        title = _title(found.score, kept)
    rows = [[label, *_cells(row, columns)] for label, row in shown]
    if not found.worst:
        sums = {name: sum(row[name] for row in found.classes.values()) for name in columns if name in _COUNTS}
        rows.append(["all classes", *_cells({**metrics, **sums}, columns)])
    table(title, ["class", *columns], rows, fold_figures=False)


def _show_errors(details: Details) -> None:
    """Prints the kinds of a detector's wrong boxes."""
    if not details.errors:
        return
    rows = [[one.name, f"{one.count:,}", f"{one.ap50_without:.4f}"] for one in details.errors]
    table("wrong boxes by kind", ["kind", "count", "AP50 without"], rows, fold_figures=False)


def _title(score: float | None, kept: Threshold | None) -> str:
    if score is None:
        return "no detection is right at IoU 0.5"
    source = f"the best on {kept.images} images of {kept.split}" if kept else "the best on these images"
    return f"precision, recall and F1 at score {score:.4g} ({source})"


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [
        "-" if name not in row else f"{row[name]:,}" if name in _COUNTS else f"{row[name]:.4f}"
        for name in columns
    ]


def _by_class(breakdowns: Mapping[str, Breakdown]) -> dict[str, dict[str, Any]]:
    """The metrics of each class by its name, of all tasks together."""
    merged: dict[str, dict[str, Any]] = {}
    for one in breakdowns.values():
        for label, row in one.classes.items():
            merged.setdefault(label, {}).update(row)
    return merged
