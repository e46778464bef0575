"""`python -m export.tflite MODEL --recipe R --for CONSUMER`: makes a .tflite and says what it costs.

Accuracy is measured with the same code on the model and on the artifact: what is decided is decided on the
split val, what is reported is measured on test. A file that loses more than `--max-drop`, that lost most of
the metric, that its consumer cannot run or that does not compute what the model computes is not written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras import results
from effkeras.console import note, run_command
from effkeras.errors import EffkerasError
from effkeras.files import safe_name
from effkeras.options import MODEL_HELP, above_zero, add_data, add_weights, explained, parser
from effkeras.quiet import quiet
from effkeras.sources import called, open_model
from export.consumers.consumer import NMS, RAW, Target, consumers, nms_settings, settle
from export.export_report import ExportReport, LayerError, edges_of, looked_at, show
from export.runs import run_folder
from export.sets import Sets
from quantize import plans
from quantize.checks.acceptance import beyond_budget, refuse_ruined, warn_of_ruined
from quantize.command import add_force, recipe_help, settings_of, work_folder
from quantize.recipes import Edges
from quantize.specs import PtqSpec

if TYPE_CHECKING:
    import keras

    from effkeras.definition import ModelSpec
    from export.attempts import Attempt
    from quantize.checks.artifact import Reference
    from quantize.post_training.quantization import PtqOptions

SAMPLES = 128
FAILED = 1
EDGES = ("float32", "uint8", "int8")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to make and how to check it.

    `consumer` is who the file is for; `io` and `nms` are the consumer's own where they are None.
    `data` is a folder of labelled pictures: ranges are measured on its split "train", what is decided is
    decided on "val" (else the split that is reported), accuracy is reported on `split` (default: "test", else
    "val"), on the first `limit` pictures of each. `max_drop` is in units of the metric: 0.01 is one point of
    AP, of mIoU or of top-1. `ptq` says how ranges are found and by which tool. `compare_layers` also measures
    the error of every layer. With `force`, an artifact that lost most of the metric is written all the same.
    """

    recipe: str = "int8"
    io: Edges | None = None
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
    consumer: str = RAW
    nms: str | None = None
    compare_layers: bool = False
    force: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when the artifact was refused, 2 when it lost most of the metric."""
    return run_command(lambda: _run(argv), resumes=True)


def export_tflite(source: str | Path, options: ExportOptions) -> ExportReport:
    """Makes an artifact, measures it, and writes it unless it loses too much or a look at it finds problems.

    What it loses is counted from the model that is given, before any step of the recipe. Beside the file
    goes a .json with the recipe and the report. When `source` is a run folder, the report is added to its
    results.jsonl.

    Args:
        source: a run folder, a .keras file, a zoo name or a TOML file.
        options: what to make and how to check it.

    Returns:
        The report; `passed` is False when nothing was written: more than `max_drop` was lost, or most of the
        metric (`ruined`), or for the reasons in `problems`.

    Raises:
        EffkerasError: bad options, an artifact that the consumer does not take, no such model, or pictures
            that are missing or do not fit the model.
    """
    with quiet():  # what checks options loads TensorFlow
        target = _check(options)
    sets = Sets.open(options)
    original = open_model(str(source), options.weights)
    target = target.fitting(_spec(original))
    model = _after_steps(original, str(source), options)
    job = _Job(original, model, options, target, sets.fitting(model))
    run = run_folder(str(source))
    report, artifact = _make(job, _out(str(source), options, target), run)
    return _keep(report, artifact, job, run)


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    """A model, before and after a recipe's steps, what is to be made of it for whom, and the images."""

    original: keras.Model
    model: keras.Model
    options: ExportOptions
    target: Target
    sets: Sets

    @property
    def ptq(self) -> PtqOptions:
        """How the model is quantized."""
        return _ptq(self.options, self.target)

    def reference(self) -> Reference:
        """What the artifact is compared with."""
        from effkeras.detection.nms import Decoder
        from quantize.checks.artifact import Reference
        from quantize.checks.pictures import pictures_of

        spec = _spec(self.model)
        pictures = pictures_of(spec.input, self.sets.validation)
        decoder = None
        if self.target.nms != "none":
            decoder = Decoder.of(spec)
            decoder = replace(decoder, nms=nms_settings(decoder.nms, self.target.nms))
        return Reference(self.model, pictures, self.ptq.recipe.name, decoder)


def _spec(model: keras.Model) -> ModelSpec:
    from effkeras.models import spec_of

    return spec_of(model)


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


def _check(options: ExportOptions) -> Target:
    """What the artifact is made for; an error for options that cannot work."""
    from quantize.post_training.quantization import check

    target = settle(options.consumer, plans.find(options.recipe).format, options.io, options.nms)
    check(_ptq(options, target), options.data)
    if options.data is None and options.max_drop is not None:
        raise EffkerasError("--max-drop needs pictures to measure accuracy on: give --data DIR")
    if options.out is not None and options.out.suffix != ".tflite":
        raise EffkerasError(f"--out {options.out}: the file name must end in .tflite")
    return target


def _ptq(options: ExportOptions, target: Target) -> PtqOptions:
    from quantize.post_training.quantization import PtqOptions

    plan = plans.find(options.recipe)
    spec = options.ptq if plan.ptq == PtqSpec() else plan.ptq
    return PtqOptions(plan.format, target.io, options.samples, options.seed, spec)


def _out(source: str, options: ExportOptions, target: Target) -> Path:
    if options.out is not None:
        return options.out
    name = "-".join([safe_name(plans.find(options.recipe).name, "the recipe's name"), *target.words()])
    run = run_folder(source)
    return run / "artifacts" / f"{name}.tflite" if run else Path(f"{called(source)}-{name}.tflite")


def _make(job: _Job, file: Path, run: Path | None) -> tuple[ExportReport, bytes]:
    from effkeras.litert.runner import LiteRTModel
    from export.attempts import Budget, Trial, remedies
    from export.consumers.finishing import Finish
    from quantize.post_training.quantization import float_parts

    options = job.options
    measured = run / "measured" if run else None
    budget = Budget(options.max_drop, options.limit, file.with_suffix(".search"), measured)
    note("converting")
    parts = float_parts(job.model, job.ptq, job.sets.calibration)
    finish = Finish(_spec(job.model), job.target)
    trial = Trial(job.original, job.model, parts, budget, job.sets, finish)
    attempts = list(trial.attempts(job.ptq))
    last = min(attempts, key=lambda attempt: attempt.drop)  # the first of equals
    runner = LiteRTModel.of_bytes(last.artifact)
    report = ExportReport(
        file=file,
        spec=runner.spec,
        recipe=options.recipe,
        io=job.target.io,
        size=len(last.artifact),
        edges=edges_of(last.artifact),
        left_in_float=last.quantized.left_in_float,
        operators=len(last.quantized.layers),
        delegated=runner.delegated(),
        samples=last.samples,
        seed=options.seed,
        accuracy=trial.reported(last),
        validated=last.accuracy,
        ruined=last.ruined,
        remedies=(*remedies(attempts, options.max_drop, job.ptq, job.sets), *_nms_remedy(last, job)),
        passed=_passes(last, options),
        consumer=job.target.consumer.name,
        nms=job.target.nms,
        problems=last.problems,
        layers=_layer_errors(last, job) if options.compare_layers else (),
    )
    return report, last.artifact


def _passes(attempt: Attempt, options: ExportOptions) -> bool:
    is_kept = options.force or not attempt.ruined
    return is_kept and not attempt.problems and not attempt.loses_more(options.max_drop)


def _nms_remedy(attempt: Attempt, job: _Job) -> tuple[str, ...]:
    """The model is measured with its own NMS, which that of the artifact may fall short of."""
    if job.target.nms != "postprocess" or not attempt.loses_more(job.options.max_drop):
        return ()
    return ("left to try: --nms soft, which suppresses boxes as the model itself is measured",)


def _layer_errors(attempt: Attempt, job: _Job) -> tuple[LayerError, ...]:
    """The errors of the network's operators, the largest first."""
    from effkeras.console import track
    from quantize.post_training.calibration import Again
    from quantize.post_training.layer_errors import layer_errors
    from quantize.post_training.quantization import as_taken

    pictures = Again(lambda: track(job.reference().pictures[:, None], "comparing layers"))
    taken = as_taken(attempt.parts, pictures)
    errors = layer_errors(attempt.parts.flatbuffer, attempt.quantized.flatbuffer, taken)
    pairs = zip(attempt.quantized.layers, errors, strict=True)
    found = [LayerError(note.name, note.op, error) for note, error in pairs if error is not None]
    return tuple(sorted(found, key=lambda one: -one.error))


def _keep(report: ExportReport, artifact: bytes, job: _Job, run: Path | None) -> ExportReport:
    """Writes what was made unless it is refused, and records the export; the report with what was found."""
    from quantize.checks.artifact import write_checked

    if report.passed:
        checked = write_checked(
            report.file, artifact, job.reference(), lambda found: _beside(looked_at(report, found))
        )
        report = looked_at(report, checked)
    if run is not None:
        results.append(run / "results.jsonl", [results.stamped(report.to_row())])
    return report


def _beside(report: ExportReport) -> str:
    """The text of the .json beside the artifact."""
    said: dict[str, Any] = {
        "recipe": plans.find(report.recipe).to_table(),
        "report": results.stamped(report.to_row()),
    }
    if report.layers:
        said["layers"] = [asdict(one) for one in report.layers]
    return json.dumps(said, indent=2) + "\n"


def _run(argv: Sequence[str] | None) -> int:
    chosen = vars(_parser().parse_args(argv))
    source = chosen.pop("model")
    how = PtqSpec(**{name: chosen.pop(name) for name in ("backend", "ranges", "equalize", "correct_bias")})
    options = ExportOptions(**chosen, ptq=how)
    report = export_tflite(source, options)
    show(report)
    if report.passed:
        warn_of_ruined(report.ruined)
        print(f"{report.file}: written, with {report.file.with_suffix('.json').name} beside it")
        return 0
    reasons = report.problems or _beyond(report, options)
    for reason in reasons:
        print(f"failed: {reason}")
    print(f"nothing was written to {report.file}")
    if not reasons:
        refuse_ruined(report.ruined)
    return FAILED


def _beyond(report: ExportReport, options: ExportOptions) -> tuple[str, ...]:
    """Why the artifact is beyond the budget, if it is."""
    lost = report.validated
    over = "" if lost is None else beyond_budget(lost.split, lost.worst_drop, options.max_drop)
    return (over,) if over else ()


def _epilog() -> str:
    """What recipes are made of, and who files are made for."""
    who = [explained(name, one.summary) for name, one in consumers().items()]
    nms = [explained(name, meaning) for name, meaning in NMS.items()]
    return "\n".join([recipe_help(), "consumers (--for):", *who, "suppression (--nms):", *nms])


def _parser() -> argparse.ArgumentParser:
    options = parser("export tflite", "Makes a LiteRT .tflite and says what it costs in accuracy and bytes.")
    options.add_argument("model", help=MODEL_HELP)
    options.formatter_class, options.epilog = argparse.RawDescriptionHelpFormatter, _epilog()
    options.add_argument("--recipe", default="int8", help="such as prune50-int8, or a TOML (default: int8)")
    options.add_argument(
        "--for",
        dest="consumer",
        default=RAW,
        metavar="WHO",
        help=f"{', '.join(consumers())} (default: {RAW})",
    )
    options.add_argument("--io", metavar="TYPE", help=f"{', '.join(EDGES)} (default: the consumer's)")
    options.add_argument("--nms", help=f"of detectors: {', '.join(NMS)} (default: the consumer's)")
    add_data(options, required=False)
    options.add_argument("--split", help="report accuracy on it (default: test, else val)")
    options.add_argument("--max-drop", type=float, metavar="D", help="what may be lost on val, e.g. 0.01")
    add_force(options)
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
    options.add_argument("--compare-layers", action="store_true", help="also print the layers' errors")
    add_weights(options)
    options.add_argument(
        "--out", type=Path, metavar="F.tflite", help="default: RUN/artifacts/RECIPE.tflite, or in this folder"
    )
    return options


if __name__ == "__main__":
    sys.exit(main())
