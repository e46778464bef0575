"""`python -m export.tflite MODEL --recipe R`: makes a .tflite and says what it costs.

Accuracy is measured with the same code on the model and on the artifact; a file that loses more than
`--max-drop` is not written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras import results
from effkeras.commands.options import MODEL_HELP, above_zero, add_data, add_weights, parser
from effkeras.console import facts, run_command
from effkeras.errors import EffkerasError
from effkeras.files import write_bytes, write_text
from effkeras.quiet import quiet
from effkeras.sources import open_model
from export.accuracy import Accuracy
from export.runs import run_folder
from export.sets import Sets
from quantize import plans
from quantize.command import recipe_help, settings_of, work_folder
from quantize.recipes import Edges
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    import keras

    from effkeras.definition import ModelSpec
    from effkeras.litert.runner import Delegation, LiteRTModel
    from quantize.post_training.quantization import LayerNote, PtqOptions

SAMPLES = 128
FAILED = 1
EDGES = ("float32", "uint8", "int8")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make and how to check it.

    `data` is a folder of labelled pictures: ranges are measured on its split "train", accuracy on `split`
    (default: "test", else "val"), on its first `limit` pictures. `max_drop` is in units of the metric: 0.01
    is one point of AP, of mIoU or of top-1. `ptq` says how ranges are found and by which tool.
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
    ptq: PtqSpec = field(default_factory=PtqSpec)


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
    with quiet():  # what checks options loads TensorFlow
        _check(options)
    sets = Sets.open(options)
    model = _after_steps(open_model(str(source), options.weights), str(source), options)
    sets = sets.fitting(model)
    report, flatbuffer = _make(model, _out(str(source), options), options, sets)
    _keep(report, flatbuffer, run_folder(str(source)))
    return report


def _after_steps(model: keras.Model, source: str, options: ExportOptions) -> keras.Model:
    """The model after the steps of a recipe that changes it, which are done once and kept."""
    plan = plans.find(options.recipe)
    if not plan.trains:
        return model
    if options.data is None:
        raise EffkerasError(f"the recipe {plan.name} trains: give --data DIR with the splits train and val")
    from effkeras.models import spec_of
    from quantize.pipeline import Work, run_steps
    from quantize.splits import Splits

    splits = Splits.open(options.data, spec_of(model), skip_bad=options.skip_bad)
    work = Work(work_folder(source, plan.name), settings_of(source, None))
    return run_steps(model, plan, splits, work)[-1].model


def _check(options: ExportOptions) -> None:
    from quantize.post_training.quantization import check

    check(_ptq(options), options.data)
    if options.data is None and options.max_drop is not None:
        raise EffkerasError("--max-drop needs pictures to measure accuracy on: give --data DIR")
    if options.out is not None and options.out.suffix != ".tflite":
        raise EffkerasError(f"--out {options.out}: the file name must end in .tflite")


def _ptq(options: ExportOptions) -> PtqOptions:
    from quantize.post_training.quantization import PtqOptions

    plan = plans.find(options.recipe)
    spec = options.ptq if plan.ptq == PtqSpec() else plan.ptq
    return PtqOptions(plan.format, options.io, options.samples, options.seed, spec)


def _out(source: str, options: ExportOptions) -> Path:
    if options.out is not None:
        return options.out
    recipe = plans.find(options.recipe).name
    name = recipe if options.io == "float32" else f"{recipe}-{options.io}"
    run = run_folder(source)
    return run / "artifacts" / f"{name}.tflite" if run else Path(f"{Path(source).stem}-{name}.tflite")


def _make(model: keras.Model, file: Path, options: ExportOptions, sets: Sets) -> tuple[ExportReport, bytes]:
    from effkeras.litert.runner import LiteRTModel
    from export.attempts import Budget, remedies, tried

    ptq = _ptq(options)
    budget = Budget(options.max_drop, options.limit, file.with_suffix(".search"))
    attempts = list(tried(model, ptq, budget, sets))
    last = min(attempts, key=lambda attempt: attempt.drop)  # the first of equals
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
        remedies=remedies(attempts, options.max_drop, ptq, sets),
        passed=not last.loses_more(options.max_drop),
    )
    return report, last.quantized.flatbuffer


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
        sidecar = {"recipe": plans.find(report.recipe).to_table(), "report": row}
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
    how = PtqSpec(**{name: chosen.pop(name) for name in ("backend", "ranges", "equalize", "correct_bias")})
    options = ExportOptions(**chosen, ptq=how)
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
    options.formatter_class, options.epilog = argparse.RawDescriptionHelpFormatter, recipe_help()
    options.add_argument("--recipe", default="int8", help="such as prune50-int8, or a TOML (default: int8)")
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
    options.add_argument(
        "--backend", default="ai-edge-quantizer", help="or tensorflow (default: ai-edge-quantizer)"
    )
    options.add_argument(
        "--ranges", default="auto", help="of activations: auto, minmax, percentile, mse (default: auto)"
    )
    options.add_argument("--equalize", action="store_true", help="even out the ranges of channels first")
    options.add_argument("--correct-bias", action="store_true", help="remove each channel's mean error")
    add_weights(options)
    options.add_argument(
        "--out", type=Path, metavar="F.tflite", help="default: RUN/artifacts/RECIPE.tflite, or in this folder"
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
