"""`python -m export.tflite MODEL --recipe R --for CONSUMER`: exports a .tflite and reports its accuracy.

The same code measures the accuracy of the model and of the artifact: on the split val for decisions, on test
for the report. A file is refused if its drop exceeds `--max-drop`, if it lost more than a fifth of the
metric, if its consumer cannot run it, or if its outputs do not agree with the model's.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.building.sources import file_stem, open_model, run_folder
from effkeras.support import results
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import hint, quiet, result, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.files import safe_name, write_text
from effkeras.support.locks import working_in, working_on
from effkeras.support.options import (
    MODEL_HELP,
    Verb,
    above_zero,
    add_data,
    add_json,
    add_old_name,
    add_weights,
    explained,
    parser,
)
from export.consumers.consumer import CONSUMERS, NMS, RAW, Consumer, Target, target_for
from export.export_report import ExportReport, show, tensors_of, with_check
from quantize import recipes
from quantize.acceptance import Verdict, advice_for, announce, beyond_budget
from quantize.command import add_force, add_minutes, recipe_help, settings_of, work_folder
from quantize.formats import IoType
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    import keras

    from effkeras.definitions.definition import ModelSpec
    from quantize.checks import Checked
    from quantize.driver import Job, Made
    from quantize.post_training.options import PtqOptions
    from quantize.runs.records import LayerError
    from quantize.splits import Splits
    from quantize.time_limit import TimeLimit
    from quantize.work_folder import Work

SAMPLES = 128
SEARCHED_ON = 500  # images of val for choosing layers in mixed precision
IO_TYPES = ("float32", "uint8", "int8")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options for making and checking an artifact.

    `consumer` is the program that the file is for; None in `io` and `nms` means the consumer's default.
    `data` is a folder of labelled images. Its split "train" calibrates, "val" (else the reported split) is
    for decisions, and accuracy is reported on `split` (default: "test", else "val"). `limit` restricts both
    measurements to the first images. `max_drop` is in units of the metric: 0.01 is one point of AP, mIoU or
    top-1. `ptq` selects the quantizer and how it finds ranges. `compare_layers` also measures the error of
    every layer. With `force`, an artifact that lost more than a fifth of the metric is written nevertheless.
    With `beside`, plain int8 of the same model is made and measured too. `time_limit` bounds the time that
    the trainings of a recipe take.
    """

    recipe: str = "int8"
    io: IoType | None = None
    data: Path | None = None
    split: str | None = None
    samples: int = SAMPLES
    seed: int = 0
    limit: int | None = None
    max_drop: float | None = None
    skip_bad: bool = False
    one_based: bool = False
    weights: str | None = None
    out: Path | None = None
    ptq: PtqSpec = field(default_factory=PtqSpec)
    consumer: str = RAW
    nms: str | None = None
    compare_layers: bool = False
    force: bool = False
    beside: bool = False
    time_limit: TimeLimit | None = None


VERB = Verb("export tflite", "make a LiteRT .tflite file and check it")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when the artifact was refused."""
    return run_command(lambda: _run(argv), resumes=True)


def export_tflite(source: str | Path, options: ExportOptions) -> ExportReport:
    """Makes and measures an artifact, and writes it unless its drop is too large or a check finds problems.

    The drop is relative to the given model, before any step of the recipe. A .json with the recipe and the
    report is written beside the file, and a model card. If `source` is a run folder, the report is appended
    to its results.jsonl.

    Args:
        source: a run folder, a .keras file, a zoo name or a TOML file.
        options: how to make and check the artifact.

    Returns:
        The report; `passed` is False when nothing was written: the drop exceeds `max_drop`, more than a fifth
        of the metric is lost (`ruined`), or for the reasons in `problems`.

    Raises:
        EffkerasError: bad options, an artifact that the consumer does not take, a missing model, or images
            that are missing or do not fit the model.
    """
    need_tensorflow("the export to .tflite")
    with quiet():  # checking options loads TensorFlow
        target = _check(options)
    _check_data(options)
    model = open_model(str(source), options.weights)
    from effkeras.layers.normalize import spec_of
    from quantize.driver import make
    from quantize.runs.cards import write_card

    run = run_folder(str(source))
    file = _out(str(source), options, target)
    target = target.fitting(spec_of(model))
    job = _job(model, str(source), options, target, file)
    with _held(file, job):
        made = make(job)
        report = _report(made, file, options, target)
        if report.passed:
            report = _with_labels(_written(made, report), target.consumer)
        row = results.stamped(report.to_row())
        if run is not None:
            results.append(run / "results.jsonl", [row])
        if report.passed:
            write_card(report.file, report.spec, row, run)
    return report


@contextlib.contextmanager
def _held(file: Path, job: Job) -> Iterator[None]:
    """Keeps other commands from the artifact and from the work folder of its recipe."""
    work = f"effkeras {VERB.name}"
    steps = contextlib.nullcontext() if job.work is None else working_in(job.work.folder, work)
    with working_on(file, work), steps:
        yield


def _check(options: ExportOptions) -> Target:
    """The target of the artifact. Raises EffkerasError for options that cannot work."""
    from quantize.post_training.options import check

    target = target_for(options.consumer, recipes.find(options.recipe).format, options.io, options.nms)
    check(_ptq(options, target), options.data)
    if options.data is None and options.max_drop is not None:
        raise EffkerasError("--max-drop needs images to measure accuracy on: give --data DIR")
    if options.out is not None and options.out.suffix != ".tflite":
        raise EffkerasError(f"--out {options.out}: the file name must end in .tflite")
    return target


def _check_data(options: ExportOptions) -> None:
    """Raises EffkerasError, before the model is loaded, if data are missing that are given or needed."""
    from effkeras.data.splits import check_exists

    recipe = recipes.find(options.recipe)
    if options.data is not None:
        check_exists(options.data)
    elif recipe.trains:
        raise EffkerasError(f"the recipe {recipe.name} trains: give --data DIR with the splits train and val")


def _job(model: keras.Model, source: str, options: ExportOptions, target: Target, file: Path) -> Job:
    from effkeras.inference.threshold import kept_threshold
    from effkeras.layers.normalize import spec_of
    from export.finishing import Finish
    from quantize.attempts import Budget
    from quantize.driver import Job

    spec, recipe, run = spec_of(model), recipes.find(options.recipe), run_folder(source)
    threshold = kept_threshold(source)
    budget = Budget(
        options.max_drop,
        options.force,
        limit=options.limit,
        search_limit=options.limit or SEARCHED_ON,
        work=file.with_suffix(".search"),
        measured=run / "measured" if run else None,
    )
    return Job(
        model,
        recipe,
        _ptq(options, target),
        _splits(source, options, spec),
        budget,
        _work(source, recipe, options) if recipe.trains else None,
        lambda made: Finish(made, target, threshold),
        options.beside,
    )


def _work(source: str, recipe: recipes.Recipe, options: ExportOptions) -> Work:
    from quantize.work_folder import Work

    return Work(work_folder(source, recipe.name), settings_of(source, None), limit=options.time_limit)


def _splits(source: str, options: ExportOptions, spec: ModelSpec) -> Splits:
    from effkeras.data.records import ReadOptions
    from effkeras.data.splits import find_split
    from effkeras.training.run import kept_options
    from quantize.beside import wants_plain_int8
    from quantize.splits import Splits, SplitsOptions

    if options.data is None:
        return Splits()
    recipe = recipes.find(options.recipe)
    ptq = options.ptq
    beside = options.beside and wants_plain_int8(recipe) and find_split(options.data, "train") is not None
    calibrates = recipe.format.needs_data or ptq.equalize or ptq.correct_bias or ptq.errors or beside
    given = ReadOptions(skip_bad=options.skip_bad, one_based=options.one_based)
    reading = kept_options(source, options.data, given)
    how = SplitsOptions(calibrates or recipe.trains, recipe.trains, options.split, reading)
    return Splits.open(options.data, spec, how)


def _ptq(options: ExportOptions, target: Target) -> PtqOptions:
    from quantize.post_training.options import PtqOptions

    recipe = recipes.find(options.recipe)
    spec = options.ptq if recipe.ptq == PtqSpec() else recipe.ptq
    return PtqOptions(recipe.format, target.io, options.samples, options.seed, spec)


def _out(source: str, options: ExportOptions, target: Target) -> Path:
    if options.out is not None:
        return options.out
    name = "-".join([safe_name(recipes.find(options.recipe).name, "the recipe's name"), *target.words()])
    run = run_folder(source)
    return run / "artifacts" / f"{name}.tflite" if run else Path(f"{file_stem(source)}-{name}.tflite")


def _report(made: Made, file: Path, options: ExportOptions, target: Target) -> ExportReport:
    from effkeras.litert.runner import LiteRTModel

    best = made.best
    runner = LiteRTModel.of_bytes(best.artifact)
    return ExportReport(
        file=file,
        spec=runner.spec,
        recipe=options.recipe,
        io=target.io,
        size=len(best.artifact),
        tensors=tensors_of(best.artifact),
        left_in_float=best.quantized.left_in_float,
        operators=len(best.quantized.layers),
        delegated=runner.delegated(),
        samples=best.samples,
        seed=options.seed,
        accuracy=made.reported,
        validated=best.accuracy,
        ruined=best.ruined,
        remedies=(*made.remedies, *_nms_remedy(made, target)),
        passed=made.passed,
        consumer=target.consumer.name,
        nms=target.nms,
        problems=best.problems,
        lost=best.lost,
        beside=made.beside,
        layers=_layer_errors(made) if options.compare_layers else (),
    )


def _nms_remedy(made: Made, target: Target) -> tuple[str, ...]:
    """A remedy for a drop due to "postprocess" NMS: the model is measured with its own, better NMS."""
    if target.nms != "postprocess" or not made.best.beyond(made.job.budget):
        return ()
    return ("left to try: --nms soft, which suppresses boxes as the model itself is measured",)


def _layer_errors(made: Made) -> tuple[LayerError, ...]:
    """The errors of the network's operators, largest first; empty if a recipe step quantized the network."""
    from effkeras.support.console import track
    from quantize.post_training.activations import layer_errors
    from quantize.post_training.calibration import Reiterable
    from quantize.post_training.quantization import conversion_inputs
    from quantize.runs.records import LayerError

    if isinstance(made.source, bytes):
        return ()
    images = Reiterable(lambda: track(made.reference().images[:, None], "comparing layers"))
    inputs = conversion_inputs(made.source, images)
    errors = layer_errors(made.source.flatbuffer, made.best.quantized.flatbuffer, inputs)
    pairs = enumerate(zip(made.best.quantized.layers, errors, strict=True), start=1)
    found = [
        LayerError(note.name, note.op, error, place) for place, (note, error) in pairs if error is not None
    ]
    return tuple(sorted(found, key=lambda one: -one.error))


def _written(made: Made, report: ExportReport) -> ExportReport:
    """Writes the artifact unless the check of the file finds problems; the report with the findings."""
    from quantize.driver import write

    def record(checked: Checked) -> dict[str, Any]:
        layers = [asdict(one) for one in report.layers]
        return {"report": with_check(report, checked).to_row(), **({"layers": layers} if layers else {})}

    return with_check(report, write(made, report.file, record))


def _with_labels(report: ExportReport, consumer: Consumer) -> ExportReport:
    """Writes the consumer's own label file, if it needs one and the artifact was written."""
    if not (report.passed and report.spec.labels and consumer.label_file):
        return report
    file = report.file.with_suffix(".labels.txt")
    write_text(file, consumer.label_file(report.spec.labels))
    return replace(report, label_file=file)


def _run(argv: Sequence[str] | None) -> int:
    begun = time.monotonic()
    chosen = vars(_parser().parse_args(argv))
    source, minutes = chosen.pop("model"), chosen.pop("minutes")
    quantizer = chosen.pop("quantizer")
    how = PtqSpec(
        backend=quantizer, **{name: chosen.pop(name) for name in ("ranges", "equalize", "correct_bias")}
    )
    options = ExportOptions(**chosen, ptq=how, beside=True, time_limit=_limit(minutes, begun))
    report = export_tflite(source, options)
    show(report)
    result({**report.to_row(), "file": str(report.file)})
    reasons, advice = report.problems or _beyond(report, options), advice_for(recipes.find(options.recipe))
    verdict = Verdict(report.passed, reasons, report.ruined, report.lost, advice)
    beside = [report.file.with_suffix(end) for end in (".json", ".md")]
    beside += [report.label_file] if report.label_file else []
    names = " and ".join(file.name for file in beside)
    written = f"{report.file}: written, with {names} beside it"
    code = announce(verdict, written, f"nothing was written to {report.file}")
    if report.passed and (Path(source) / "model.toml").is_file():  # a run folder that reports read
        hint(shlex.join(["effkeras", "export", "report", source]))
    return code


def _limit(minutes: float | None, begun: float) -> TimeLimit | None:
    if minutes is None:
        return None
    need_tensorflow("the export to .tflite")
    with quiet():  # this loads TensorFlow
        from quantize.time_limit import TimeLimit

        return TimeLimit(minutes, begun)


def _beyond(report: ExportReport, options: ExportOptions) -> tuple[str, ...]:
    """The message that the drop exceeds the budget, if it does."""
    lost = report.validated
    over = "" if lost is None else beyond_budget(lost.split, lost.worst_drop, options.max_drop)
    return (over,) if over else ()


def _epilog() -> str:
    """Help on the parts of recipes, the consumers, and the kinds of NMS."""
    who = [explained(name, one.summary) for name, one in CONSUMERS.entries().items()]
    nms = [explained(name, meaning) for name, meaning in NMS.items()]
    return "\n".join([recipe_help(), "consumers (--for):", *who, "suppression (--nms):", *nms])


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Makes a LiteRT .tflite and says what it costs in accuracy and bytes.")
    options.add_argument("model", help=MODEL_HELP)
    options.epilog = _epilog()
    options.add_argument("--recipe", default="int8", help="such as prune50-int8, or a TOML (default: int8)")
    options.add_argument(
        "--for",
        dest="consumer",
        default=RAW,
        metavar="WHO",
        help=f"{', '.join(CONSUMERS.entries())} (default: {RAW})",
    )
    options.add_argument("--io", metavar="TYPE", help=f"{', '.join(IO_TYPES)} (default: the consumer's)")
    options.add_argument("--nms", help=f"of detectors: {', '.join(NMS)} (default: the consumer's)")
    add_data(options, required=False)
    options.add_argument("--split", help="report accuracy on it (default: test, else val)")
    options.add_argument("--max-drop", type=float, metavar="D", help="what may be lost on val, e.g. 0.01")
    add_force(options)
    add_minutes(options)
    options.add_argument(
        "--samples", type=above_zero, default=SAMPLES, help=f"calibration images (default: {SAMPLES})"
    )
    options.add_argument("--seed", type=int, default=0, help="which images calibrate (default: 0)")
    options.add_argument("--limit", type=above_zero, help="measure on the first LIMIT images only")
    options.add_argument(
        "--quantizer", default="ai-edge-quantizer", help="or tensorflow (default: ai-edge-quantizer)"
    )
    add_old_name(options, "--backend", "--quantizer")
    options.add_argument(
        "--ranges", default="auto", help="of activations: auto, minmax, percentile, mse (default: auto)"
    )
    options.add_argument("--equalize", action="store_true", help="even out the ranges of channels first")
    options.add_argument("--correct-bias", action="store_true", help="remove each channel's mean error")
    options.add_argument("--compare-layers", action="store_true", help="also print the layers' errors")
    add_weights(options)
    options.add_argument(
        "--out", type=Path, metavar="F.tflite", help="default: RUN/artifacts/RECIPE.tflite, or in this folder"
    )
    add_json(options)
    return options


if __name__ == "__main__":
    sys.exit(main())
