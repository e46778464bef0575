"""`effkeras search --demo`: a search on digits, and its winner against two hand-designed networks.

Runs the commands that a user would type, and prints each one before it runs.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras.definitions import zoo
from effkeras.definitions.changes import with_classes
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.scaling import with_width
from effkeras.graph.counting import count
from effkeras.support.console import run_command, table
from effkeras.support.files import make_folder, write_text
from effkeras.support.options import parser
from export.benchmarks.demo import StepError, step
from quantize.runs.reading import read_run
from quantize.runs.records import RunData, Setting

BASELINES = Path(__file__).with_name("baselines")
SPACE = "digits-blocks"
TARGET = 1.5e6  # multiply-adds
_DIGITS = ["--train", "2000", "--val", "500", "--test", "1000", "--classify"]
_SEARCH = ["--workers", "2", "--epochs", "3", "--batch", "32", "--objective", "mnas-hard"]
_FEW = ["--option", "population=6", "--option", "tournament=3"]  # few candidates: only 6 start at random
_TRAINING = ["--config", str(Path(__file__).with_name("search_demo.train.toml"))]
_INT8 = "int8.tflite"
_WIDTHS = tuple(width / 100 for width in range(10, 201))


@dataclass(frozen=True, slots=True)
class SearchDemo:
    """The output folder, and how many candidates each of the two searches tries."""

    out: Path
    trials: int = 12


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo."""
    options = parser("search --demo", "Searches a network for handwritten digits, and judges it.")
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="the demo's folder")
    return run_command(lambda: _run(options, argv), resumes=True)


def _run(options: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    chosen = options.parse_args(argv)
    try:
        page = show(SearchDemo(chosen.out))
    except StepError as failed:
        return failed.code
    print(f"The search, as a page to open in a browser: {page}")
    return 0


def show(demo: SearchDemo) -> Path:
    """Runs all steps and returns the path of the search's HTML report."""
    data, searches = demo.out / "data", [demo.out / name for name in ("evolution", "random")]
    step("data", "digits", data, *_DIGITS)
    for seed, folder in enumerate(searches):
        _search(folder, data, demo.trials, seed)
    winner = searches[0] / "best.toml"
    definitions = {"winner": winner, **_baselines(demo.out, zoo.spec(winner))}
    runs = {name: _trained(file, data, demo.out / "runs" / name) for name, file in definitions.items()}
    step("export", "bench", *(run / "artifacts" / _INT8 for run in runs.values()), "--threads", "1")
    step("search", "report", *searches)
    _print_table({name: zoo.spec(file) for name, file in definitions.items()}, runs)
    return searches[0] / "report" / "report.html"


def scaled_to(spec: ModelSpec, macs: int) -> ModelSpec:
    """The model with the width whose multiply-adds are nearest to `macs`; channels are multiples of 8."""
    candidates = [with_width(spec, width) for width in _WIDTHS]
    return min(candidates, key=lambda one: abs(count(one).macs - macs))


def _search(folder: Path, data: Path, trials: int, seed: int) -> None:
    options = ["--strategy", folder.name, "--trials", trials, "--seed", seed, "--target", TARGET]
    few = _FEW if folder.name == "evolution" else []
    step("search", SPACE, "--data", data, "--out", folder, *options, *few, *_SEARCH)


def _baselines(out: Path, winner: ModelSpec) -> dict[str, Path]:
    """Definitions of the hand-designed networks, scaled to the winner's multiply-adds."""
    make_folder(out)
    macs, files = count(winner).macs, {}
    for file in sorted(BASELINES.glob("*.toml")):
        spec = with_classes(zoo.spec(file), winner.labels or winner.classes)
        spec = dataclasses.replace(scaled_to(spec, macs), name=file.stem)
        files[file.stem] = out / file.name
        write_text(files[file.stem], spec.to_toml())
    return files


def _trained(definition: Path, data: Path, run: Path) -> Path:
    step("train", definition, "--data", data, "--out", run, *_TRAINING)
    step("export", "tflite", run, "--recipe", "int8", "--data", data)
    return run


def _print_table(specs: dict[str, ModelSpec], runs: dict[str, Path]) -> None:
    rows = [_cells(name, specs[name], read_run(run, samples=0)) for name, run in runs.items()]
    columns = ["network", "M MACs", "parameters", "top-1", "int8", "kB", "median ms"]
    table("1,000 test images; latency of int8 with XNNPACK, 1 thread", columns, rows)


def _cells(name: str, spec: ModelSpec, run: RunData) -> list[str]:
    counts, artifact = count(spec), next(one for one in run.artifacts if one.file == _INT8)
    time = artifact.latency(Setting("XNNPACK", 1))
    scores = [run.score(one) for one in (run.keras, artifact)]
    return [
        name,
        f"{counts.macs / 1e6:.2f}",
        f"{counts.trainable:,}",
        *("-" if score is None else f"{score:.4f}" for score in scores),
        "-" if artifact.size is None else f"{artifact.size / 1000:.0f}",
        "-" if time is None else f"{time.median_ms:.3f}",
    ]
