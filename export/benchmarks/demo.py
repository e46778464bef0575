"""`make demo`: the whole path from labelled images to a measured int8 detector and a report.

Runs the commands that a user would type, and prints each one before it runs.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras import cli
from effkeras.data.records import DetectionData, ReadOptions
from effkeras.data.splits import find_split, read_split
from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.support.console import note, run_command, table
from effkeras.support.files import make_folder, output_files
from effkeras.support.options import add_data, parser
from effkeras.training.run import kept_options
from effkeras.training.settings import LENGTHS
from quantize.runs.reading import read_run
from quantize.runs.records import Artifact, RunData, Setting

RECIPES = ("float32", "fp16", "dynamic", "int8")
SAMPLES = 6
_DIGITS = ["--train", "1600", "--val", "200", "--test", "1000"]
_TRAINING = ("--epochs", "1", "--learning-rate", "0.0003")  # from weights that know digits


@dataclass(frozen=True, slots=True)
class Demo:
    """A zoo model, the user's data set (None: generated digits), and the run folder to write.

    `reading` are options of all commands that read the data, `length` those of the training's length.
    """

    model: str
    data: Path | None
    out: Path
    reading: tuple[str, ...] = ()
    length: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """The report page, and the refused recipes, each with the exit code of its export."""

    page: Path
    refused: dict[str, int]


class StepError(Exception):
    """A command ended with an exit code other than 0, after printing the reason."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo."""
    options = parser("demo", "Trains, exports, measures and reports a detector.")
    options.add_argument("--model", default="efficientdet-digits", help="a name of `effkeras list`")
    add_data(options, required=False)
    lengths = options.add_mutually_exclusive_group()
    for name in LENGTHS:
        lengths.add_argument(f"--{name}", help="of the training, as for `effkeras train`")
    options.add_argument("--out", type=Path, default=Path("runs/demo"), help="the run folder")
    return run_command(lambda: _run(options, argv), resumes=True)


def _run(options: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    chosen = options.parse_args(argv)
    reading = {"--skip-bad": chosen.skip_bad, "--voc-one-based": chosen.one_based}
    length = {f"--{name}": getattr(chosen, name) for name in LENGTHS}
    demo = Demo(
        chosen.model,
        chosen.data,
        chosen.out,
        tuple(option for option, is_given in reading.items() if is_given),
        tuple(word for option, value in length.items() if value for word in (option, value)),
    )
    try:
        shown = show(demo)
    except StepError as failed:
        return failed.code
    print_table(read_run(chosen.out, samples=0))
    print(f"The report, with images and charts: {shown.page}")
    if shown.refused:
        print(f"refused, for the reasons above: {', '.join(shown.refused)}")
    return max(shown.refused.values(), default=0)


def show(demo: Demo) -> Shown:
    """Runs all steps. If one recipe is refused, the others are still exported.

    Raises StepError when another step fails or every recipe is refused.
    """
    spec = zoo.spec(demo.model)
    data = demo.data or _draw_digits(spec, demo.out.parent / "demo-data")
    read = ["--data", data, *demo.reading]
    length = demo.length or (() if demo.data else _TRAINING)
    step("train", demo.model, *read, "--out", demo.out, *_start(spec), *length)
    refused: dict[str, int] = {}
    for recipe in RECIPES:
        try:
            step("export", "tflite", demo.out, "--recipe", recipe, *read)
        except StepError as failed:
            refused[recipe] = failed.code
    made = [recipe for recipe in RECIPES if recipe not in refused]
    if not made:
        raise StepError(max(refused.values()))
    artifacts = [demo.out / "artifacts" / f"{recipe}.tflite" for recipe in made]
    step("export", "bench", *artifacts)
    _draw_samples(artifacts[-1], data, demo.out / "samples")
    step("export", "report", demo.out)
    return Shown(demo.out / "report" / "report.html", refused)


def print_table(run: RunData) -> None:
    """Prints accuracy, size and latency of each artifact, the Keras model first."""
    setting = Setting("XNNPACK", 1)
    rows = [_cells(run, artifact, setting) for artifact in (run.keras, *run.artifacts)]
    columns = ["artifact", run.metric, "drop", "kB", "median ms", "p95 ms", "ops delegated"]
    table(f"{run.name}: latency with XNNPACK, 1 thread", columns, rows)


def _cells(run: RunData, artifact: Artifact, setting: Setting) -> list[str]:
    score, time, delegation = run.score(artifact), artifact.latency(setting), artifact.delegation
    return [
        artifact.name,
        "-" if score is None else f"{score:.4f}",
        "-" if artifact.drop is None else f"{round(artifact.drop, 4) + 0:+.4f}",
        "-" if artifact.size is None else f"{artifact.size / 1000:.0f}",
        "-" if time is None else f"{time.median_ms:.2f}",
        "-" if time is None else f"{time.p95_ms:.2f}",
        "-" if delegation is None else f"{delegation.delegated_ops}/{delegation.total_ops}",
    ]


def step(*words: object) -> None:
    """Prints a command and runs it. Raises StepError when its exit code is not 0."""
    command = [str(word) for word in words]
    note(f"\n$ effkeras {shlex.join(command)}")
    code = cli.main(command)
    if code:
        raise StepError(code)


def _draw_digits(spec: ModelSpec, folder: Path) -> Path:
    classify = [] if spec.is_detector else ["--classify"]
    masks = ["--masks", "rle"] if spec.segments else []
    step("data", "digits", folder, *_DIGITS, *classify, *masks)
    return folder


def _start(spec: ModelSpec) -> list[str]:
    """Options for the weights and the training recipe that ship with the model, if any."""
    shipped = [name for name, card in spec.weights.items() if card.file]
    start = ["--weights", shipped[0]] if shipped else []
    definition = zoo.definition_path(spec.name)
    recipe = definition.with_suffix(".train.toml") if definition else None
    return [*start, "--config", str(recipe)] if recipe and recipe.is_file() else start


def _draw_samples(artifact: Path, root: Path, folder: Path) -> None:
    """Draws the artifact's detections on a few test images, for the report."""
    from effkeras.inference.predict import draw, predict
    from effkeras.inference.predictor import open_predictor
    from effkeras.inference.threshold import score_for

    options = kept_options(artifact, root, ReadOptions())
    paths = [record.path for record in _test_records(root, options)[:SAMPLES]]
    make_folder(folder)
    targets = output_files(folder, paths, ".png")
    predictor, found = open_predictor(artifact), 0
    for record in predict(predictor, paths, score_for(artifact, predictor)):
        draw(record, targets[Path(record["image"])])
        found += len(record.get("detections", []))
    if predictor.spec.detects:
        note(f"{found} objects found in {len(paths)} test images, drawn in {folder}/")


def _test_records(root: Path, options: ReadOptions) -> Sequence:
    data = read_split(root, find_split(root, "test", "val") or "test", options)
    if isinstance(data, DetectionData):  # images with many objects show more
        return sorted(data.records, key=lambda record: -len(record.boxes))
    return data.records


if __name__ == "__main__":
    sys.exit(main())
