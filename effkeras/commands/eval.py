"""`effkeras eval MODEL --data DIR`: computes the same metrics for a model and its artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from effkeras.data.records import ReadOptions
from effkeras.data.splits import read_split
from effkeras.support import results
from effkeras.support.console import run_command, table
from effkeras.support.options import ANY_HELP, Verb, above_zero, add_data, add_split, add_weights, parser
from effkeras.training.run import kept_options

VERB = Verb("eval", "measure a run, a .keras file or an artifact")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures a model."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = parser(VERB.name, "Measures a model on labelled images: COCO metrics, mIoU or accuracy.")
    options.add_argument("model", help=ANY_HELP)
    add_weights(options)
    add_data(options)
    add_split(options, "test")
    options.add_argument("--limit", type=above_zero, help="measure on the first LIMIT images only")
    chosen = options.parse_args(argv)
    reading = ReadOptions(skip_bad=chosen.skip_bad, one_based=chosen.one_based)
    reading = kept_options(chosen.model, chosen.data, reading)
    data = read_split(chosen.data, chosen.split, reading)

    from effkeras.inference.evaluate import evaluate
    from effkeras.inference.predictor import open_predictor

    predictor = open_predictor(chosen.model, chosen.weights)
    if predictor.spec.segments:
        data = read_split(chosen.data, chosen.split, replace(reading, masks=True))
    metrics = evaluate(predictor, data, limit=chosen.limit)
    count = min(len(data.records), chosen.limit or len(data.records))
    rows = [[name, f"{value:.4f}"] for name, value in metrics.items()]
    table(f"{chosen.model} on {count} {chosen.split} images", ["metric", "value"], rows)
    _record(Path(chosen.model), chosen.split, count, metrics)


def _record(model: Path, split: str, count: int, metrics: dict[str, float]) -> None:
    """Appends the metrics of a run, or of an artifact in a run folder, to the run's results."""
    is_run = (model / "model.toml").is_file()
    folder = model if is_run else model.resolve().parent.parent
    if not (folder / "model.toml").is_file():
        return
    name = "model.keras" if is_run else model.resolve().name
    row = {"kind": "eval", "artifact": name, "split": split, "images": count, "metrics": metrics}
    results.append(folder / "results.jsonl", [results.stamped(row)])
