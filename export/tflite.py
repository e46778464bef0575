"""`python -m export.tflite MODEL --recipe R`: makes a .tflite and says what it costs.

Accuracy is measured with the same code on the model and on the artifact; a file that loses more than
`--max-drop` is not written.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras import results
from effkeras.commands.options import MODEL_HELP, above_zero, add_data, add_weights, parser
from effkeras.console import facts, note, run_command
from effkeras.errors import EffkerasError
from effkeras.files import write_bytes, write_text
from effkeras.sources import open_model
from export.runs import run_folder
from quantize.recipes import Edges, check_edges, find, names

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData
    from effkeras.definition import ModelSpec
    from effkeras.litert.runner import Delegation, LiteRTModel
    from quantize.post_training import LayerNote, PtqOptions, Quantized

SAMPLES = 128
MORE_SAMPLES = 4
FAILED = 1
EDGES = ("float32", "uint8", "int8")

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make and how to check it.

    `data` is a folder of labelled pictures: ranges are measured on its split "train", accuracy on `split`
    (default: "test", else "val"), on its first `limit` pictures. `max_drop` is in units of the metric: 0.01
    is one point of AP, of mIoU or of top-1.
    """

    recipe: str = "int8"
    io: Edges = "float32"
    data: Path | None = None
    split: str | None = None
    samples: int = SAMPLES
    seed: int = 0
    limit: int | None = None
    max_drop: float | None = None
    skip_bad: bool = False
    weights: str | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The same metrics for the model and for the artifact; `metric` counts most, `others` count too."""

    metric: str
    split: str
    pictures: int
    model: Metrics
    artifact: Metrics
    others: tuple[str, ...] = ()

    @property
    def drop(self) -> float:
        """What the artifact loses of the metric; negative when it gains."""
        return self.drop_of(self.metric)

    @property
    def worst_drop(self) -> float:
        """The largest drop among the metrics that count; NaN if one of them is."""
        drops = [self.drop_of(name) for name in (self.metric, *self.others)]
        return max(drops, key=lambda drop: (math.isnan(drop), drop))

    def drop_of(self, metric: str) -> float:
        """What the artifact loses of one metric."""
        return self.model[metric] - self.artifact[metric]


@dataclass(frozen=True, eq=False, slots=True)
class ExportReport:
    """An export: what came out, what it costs, and whether it was written."""

    file: Path
    spec: ModelSpec
    recipe: str
    io: str
    size: int
    edges: tuple[str, ...]
    left_in_float: tuple[LayerNote, ...]
    operators: int
    delegated: Delegation
    samples: int
    seed: int
    accuracy: Accuracy | None = None
    remedies: tuple[str, ...] = ()
    passed: bool = True

    def to_row(self) -> dict[str, Any]:
        """The report as a plain record, kind "export"."""
        return {
            "kind": "export",
            "model": self.spec.name,
            "input_size": list(self.spec.input.size),
            "artifact": self.file.name,
            "recipe": self.recipe,
            "io": self.io,
            "bytes": self.size,
            "calibration_pictures": self.samples,
            "seed": self.seed,
            **_accuracy_row(self.accuracy),
            "total_ops": self.delegated.total_ops,
            "delegated_ops": self.delegated.delegated_ops,
            "partitions": self.delegated.partitions,
            "float_ops": [{"op": one.op, "layer": one.name, "why": one.why} for one in self.left_in_float],
            "remedies": list(self.remedies),
            "passed": self.passed,
        }


@dataclass(frozen=True, eq=False, slots=True)
class _Attempt:
    """One artifact that was tried."""

    quantized: Quantized
    samples: int
    accuracy: Accuracy | None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when the artifact loses more than --max-drop."""
    return run_command(lambda: _run(argv))


def export_tflite(source: str | Path, options: ExportOptions) -> ExportReport:
    """Makes an artifact, measures it, and writes it unless it loses too much.

    Beside the file goes a .json with the recipe and the report. When `source` is a run folder, the report
    is added to its results.jsonl.

    Args:
        source: a run folder, a .keras file, a zoo name or a TOML file.
        options: what to make and how to check it.

    Returns:
        The report; `passed` is False when more than `max_drop` was lost and nothing was written.

    Raises:
        EffkerasError: bad options, no such model, or pictures that are missing or do not fit the model.
    """
    _check(options)
    sets = _Sets.open(options)
    model = open_model(str(source), options.weights)
    sets = sets.fitting(model)
    report, flatbuffer = _make(model, _out(str(source), options), options, sets)
    _keep(report, flatbuffer, run_folder(str(source)))
    return report


@dataclass(frozen=True, eq=False, slots=True)
class _Sets:
    """The pictures to calibrate with and those to measure on."""

    calibration: LabelledData | None
    check: LabelledData | None
    skip_bad: bool = False

    @classmethod
    def open(cls, options: ExportOptions) -> _Sets:
        if options.data is None:
            return cls(None, None)
        check = _open(options.data, options.split, ("test", "val"), options.skip_bad)
        if not find(options.recipe).needs_data:
            return cls(None, check, options.skip_bad)
        return cls(_open(options.data, None, ("train",), options.skip_bad), check, options.skip_bad)

    def fitting(self, model: keras.Model) -> _Sets:
        """The same, the pictures to measure on with their masks if the model segments."""
        from effkeras.data.splits import open_data
        from effkeras.models import spec_of

        if self.check is None or not spec_of(model).segments:
            return self
        check = open_data(self.check.root, self.check.split, skip_bad=self.skip_bad, masks=True)
        return replace(self, check=check)


def _open(root: Path, asked: str | None, wanted: Sequence[str], skip_bad: bool) -> LabelledData:
    """The split that was asked for, else the first of `wanted` that exists (COCO: train is train2017)."""
    from effkeras.data.splits import find_split, open_data

    split = asked or find_split(root, *wanted) or wanted[0]
    return open_data(root, split, skip_bad=skip_bad)


def _check(options: ExportOptions) -> None:
    recipe = find(options.recipe)
    check_edges(recipe, options.io)
    if options.data is None and recipe.needs_data:
        raise EffkerasError(
            f"the recipe {recipe.name} measures ranges on pictures: give --data DIR, "
            "or use --recipe dynamic, which needs none"
        )
    if options.data is None and options.max_drop is not None:
        raise EffkerasError("--max-drop needs pictures to measure accuracy on: give --data DIR")
    if options.out is not None and options.out.suffix != ".tflite":
        raise EffkerasError(f"--out {options.out}: the file name must end in .tflite")


def _out(source: str, options: ExportOptions) -> Path:
    if options.out is not None:
        return options.out
    name = options.recipe if options.io == "float32" else f"{options.recipe}-{options.io}"
    run = run_folder(source)
    return run / "artifacts" / f"{name}.tflite" if run else Path(f"{Path(source).stem}-{name}.tflite")


def _make(model: keras.Model, file: Path, options: ExportOptions, sets: _Sets) -> tuple[ExportReport, bytes]:
    from effkeras.litert.runner import LiteRTModel
    from quantize.post_training import PtqOptions

    ptq = PtqOptions(find(options.recipe), options.io, options.samples, options.seed)
    *earlier, last = _attempts(model, ptq, options, sets)
    runner = LiteRTModel.of_bytes(last.quantized.flatbuffer)
    report = ExportReport(
        file=file,
        spec=runner.spec,
        recipe=options.recipe,
        io=options.io,
        size=len(last.quantized.flatbuffer),
        edges=_edges(runner),
        left_in_float=last.quantized.left_in_float,
        operators=len(last.quantized.layers),
        delegated=runner.delegated(),
        samples=last.samples,
        seed=options.seed,
        accuracy=last.accuracy,
        remedies=_remedies([*earlier, last], options, sets),
        passed=not _loses_too_much(last, options),
    )
    return report, last.quantized.flatbuffer


def _attempts(model: keras.Model, ptq: PtqOptions, options: ExportOptions, sets: _Sets) -> Iterator[_Attempt]:
    """Artifacts in the order they are tried: the last is the one to report."""
    from quantize.post_training import float_parts

    note("converting")
    parts = float_parts(model, ptq)
    reference = _reference(model, options, sets)
    attempt = _attempt(parts, ptq, reference, options, sets)
    yield attempt
    if _loses_too_much(attempt, options) and _has_more(options, sets):
        note(f"the metric drops by more than {options.max_drop}: trying more calibration pictures")
        yield _attempt(parts, replace(ptq, samples=options.samples * MORE_SAMPLES), reference, options, sets)


def _attempt(
    parts: Any, ptq: PtqOptions, reference: Metrics | None, options: ExportOptions, sets: _Sets
) -> _Attempt:
    from effkeras.evaluate import evaluate, headlines
    from effkeras.litert.runner import LiteRTModel
    from quantize.post_training import quantize_parts

    quantized = quantize_parts(parts, ptq, sets.calibration)
    used = min(ptq.samples, len(sets.calibration.records)) if sets.calibration else 0
    if reference is None or sets.check is None:
        return _Attempt(quantized, used, None)
    runner = LiteRTModel.of_bytes(quantized.flatbuffer)
    metrics = evaluate(runner, sets.check, limit=options.limit, title="measuring the artifact")
    count = len(sets.check.records[: options.limit])
    first, *others = headlines(parts.spec)
    accuracy = Accuracy(first, sets.check.split, count, reference, metrics, tuple(others))
    return _Attempt(quantized, used, accuracy)


def _reference(model: keras.Model, options: ExportOptions, sets: _Sets) -> Metrics | None:
    if sets.check is None:
        return None
    from effkeras.evaluate import evaluate
    from effkeras.predictor import KerasPredictor

    predictor = KerasPredictor.of(model)
    return evaluate(predictor, sets.check, limit=options.limit, title="measuring the model")


def _loses_too_much(attempt: _Attempt, options: ExportOptions) -> bool:
    if options.max_drop is None or attempt.accuracy is None:
        return False
    return not attempt.accuracy.worst_drop <= options.max_drop  # so that a drop that is not a number fails


def _has_more(options: ExportOptions, sets: _Sets) -> bool:
    return sets.calibration is not None and len(sets.calibration.records) > options.samples


def _remedies(attempts: Sequence[_Attempt], options: ExportOptions, sets: _Sets) -> tuple[str, ...]:
    """What was tried against too large a drop, in order, and what is left to try."""
    first, last = attempts[0], attempts[-1]
    if first.accuracy is None or not _loses_too_much(first, options):
        return ()
    lines = [
        f"{first.samples} calibration pictures: drop {first.accuracy.worst_drop:.4f}" if first.samples else ""
    ]
    if last is not first and last.accuracy is not None:
        lines.append(f"{last.samples} calibration pictures: drop {last.accuracy.worst_drop:.4f}")
    elif sets.calibration is not None:
        lines.append(f"more calibration pictures: all {len(sets.calibration.records)} are used already")
    if _loses_too_much(last, options):
        lines.append(_what_is_left(options))
    return tuple(line for line in lines if line)


def _what_is_left(options: ExportOptions) -> str:
    if find(options.recipe).needs_data:
        return "left to try: --recipe dynamic or fp16, or training with quantization (QAT)"
    return "left to try: --recipe float32, which computes what the model computes"


def _edges(runner: LiteRTModel) -> tuple[str, ...]:
    run = runner.interpreter.get_signature_runner()
    details = [*run.get_input_details().items(), *run.get_output_details().items()]
    return tuple(_edge(name, detail) for name, detail in details)


def _edge(name: str, detail: dict[str, Any]) -> str:
    shape = " x ".join(str(side) for side in detail["shape"])
    return f"{name}: {detail['dtype'].__name__}, {shape}"


def _keep(report: ExportReport, flatbuffer: bytes, run: Path | None) -> None:
    row = results.stamped(report.to_row())
    if report.passed:
        write_bytes(report.file, flatbuffer)
        sidecar = {"recipe": find(report.recipe).to_table(), "report": row}
        write_text(report.file.with_suffix(".json"), json.dumps(sidecar, indent=2) + "\n")
    if run is not None:
        results.append(run / "results.jsonl", [row])


def _accuracy_row(accuracy: Accuracy | None) -> dict[str, Any]:
    if accuracy is None:
        return {}
    return {
        "metric": accuracy.metric,
        "split": accuracy.split,
        "pictures": accuracy.pictures,
        "float_metrics": accuracy.model,
        "artifact_metrics": accuracy.artifact,
        "drop": accuracy.drop,
    }


def _run(argv: Sequence[str] | None) -> int:
    chosen = vars(_parser().parse_args(argv))
    source = chosen.pop("model")
    options = ExportOptions(**chosen)
    report = export_tflite(source, options)
    _print(report)
    if report.passed:
        print(f"{report.file}: written, with {report.file.with_suffix('.json').name} beside it")
        return 0
    print(f"failed: the drop is beyond --max-drop {options.max_drop}; nothing was written to {report.file}")
    return FAILED


def _print(report: ExportReport) -> None:
    title = f"{report.spec.name} as {report.recipe}"
    facts(title, [*_accuracy_lines(report.accuracy), *_cost_lines(report), *_trouble_lines(report)])


def _accuracy_lines(accuracy: Accuracy | None) -> Iterator[tuple[str, str]]:
    if accuracy is None:
        yield "accuracy", "not measured: give --data DIR"
        return
    for name in (accuracy.metric, *accuracy.others):
        yield (
            f"{name} float",
            f"{accuracy.model[name]:.4f} ({accuracy.pictures} pictures of {accuracy.split})",
        )
        yield f"{name} artifact", f"{accuracy.artifact[name]:.4f}"
        yield "drop", f"{accuracy.drop_of(name):.4f}"


def _cost_lines(report: ExportReport) -> Iterator[tuple[str, str]]:
    yield "size", f"{report.size:,} bytes"
    yield "input", report.edges[0]
    for edge in report.edges[1:]:
        yield "output", edge
    if report.samples:
        yield "calibrated on", f"{report.samples} pictures"
    yield "XNNPACK runs", str(report.delegated)


def _trouble_lines(report: ExportReport) -> Iterator[tuple[str, str]]:
    if not report.left_in_float:
        yield "left in float", "nothing"
    for why, ops in _by_reason(report.left_in_float).items():
        count = f"{len(ops)} of {report.operators} ops" if len(ops) > 4 else ", ".join(ops)
        yield "left in float", f"{count}: {why}"
    for remedy in report.remedies:
        yield "remedy", remedy


def _by_reason(layers: Iterable[LayerNote]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for layer in layers:
        grouped[layer.why].append(layer.op)
    return grouped


def _parser() -> argparse.ArgumentParser:
    options = parser("export tflite", "Makes a LiteRT .tflite and says what it costs in accuracy and bytes.")
    options.add_argument("model", help=MODEL_HELP)
    options.add_argument("--recipe", default="int8", help=f"{', '.join(names())} (default: int8)")
    options.add_argument(
        "--io", default="float32", metavar="TYPE", help=f"{', '.join(EDGES)} (default: float32)"
    )
    add_data(options, required=False)
    options.add_argument("--split", help="measure accuracy on it (default: test, else val)")
    options.add_argument("--max-drop", type=float, metavar="D", help="fail when more is lost, e.g. 0.01")
    options.add_argument(
        "--samples", type=above_zero, default=SAMPLES, help=f"calibration pictures (default: {SAMPLES})"
    )
    options.add_argument("--seed", type=int, default=0, help="which pictures calibrate (default: 0)")
    options.add_argument("--limit", type=above_zero, help="measure on the first LIMIT pictures only")
    add_weights(options)
    options.add_argument(
        "--out", type=Path, metavar="F.tflite", help="default: RUN/artifacts/RECIPE.tflite, or in this folder"
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
