"""`python -m export.benchmarks.compression`: accuracy and size of the compressed shipped models.

Runs the cases of `compression_cases.toml` in order on generated digit images and appends a row for each to
`models/results.jsonl`: the drop on the 1,000 test images with its paired bootstrap interval, the sizes, and
the shares of zeros and of int8 MACs. The last case, "speed", times detectors before and after pruning half
their multiply-adds. A work folder keeps progress, so that an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.data.digits import DigitsOptions, write_digits
from effkeras.support import results
from effkeras.support.console import note, quiet, run_command
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.options import parser
from effkeras.support.tables import read_toml, to_record
from quantize import recipes
from quantize.command import settings_of
from quantize.specs import Backend

if TYPE_CHECKING:
    import keras

    from effkeras.litert.latency import Plan
    from effkeras.support.measurements import Latency
    from quantize.report import Compressed
    from quantize.specs import ChannelSpec

CASES = Path(__file__).with_name("compression_cases.toml")
SPEED = "speed"
# Latency does not depend on the values of the weights, so random weights suffice.
SPEED_RECIPES = ("float32", "int8")
HEADER = (
    "| model | what is done | float | artifact | drop (95 % interval) | zeros | int8 MACs | kB | gzipped |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
SPEED_HEADER = (
    "| model | side | recipe | MACs | left | ms | then | faster |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: a model, a recipe and its settings.

    `rescaled` first rescales channels, which leaves the outputs as they are but makes int8 less accurate.
    `goal` is the largest acceptable drop. Training uses `images` images of the split "train".
    """

    model: str
    recipe: str
    backend: Backend = "ai-edge-quantizer"
    max_drop: float | None = None
    goal: float | None = None
    rescaled: bool = False
    epochs: int = 3
    learning_rate: float = 5e-4
    images: int = 4000

    def tuned_recipe(self) -> recipes.Recipe:
        """The recipe with this case's training and backend."""
        recipe = recipes.find(self.recipe)
        tune = dataclasses.replace(recipe.tune, epochs=self.epochs, learning_rate=self.learning_rate)
        return dataclasses.replace(
            recipe, tune=tune, ptq=dataclasses.replace(recipe.ptq, backend=self.backend)
        )


@dataclass(frozen=True, slots=True)
class SpeedCase:
    """A zoo model and the side of its square input in pixels."""

    model: str
    side: int


SPEED_CASES = (SpeedCase("efficientdet-lite0", 320), SpeedCase("efficientdet-d0", 512))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cases and prints the table."""
    return run_command(lambda: _run(argv), resumes=True)


def read_cases(file: Path = CASES) -> dict[str, Case]:
    """All cases by name."""
    return {name: to_record(Case, table, f"{file}: {name}") for name, table in read_toml(file).items()}


def markdown(rows: Sequence[results.Row]) -> str:
    """A Markdown table with the newest row of each case."""
    newest = {row["case"]: row for row in rows if row["kind"] == "compression" and "case" in row}
    return "\n".join(
        [HEADER, *(_line(newest[name], case) for name, case in read_cases().items() if name in newest)]
    )


def speed_markdown(rows: Sequence[results.Row]) -> str:
    """A Markdown table of the fastest runs, from the newest row of each timed model and recipe."""
    newest = {(row["model"], row["recipe"]): row for row in rows if row["kind"] == "channel-speed"}
    return "\n".join([SPEED_HEADER, *map(_speed_line, newest.values())])


def _line(row: results.Row, case: Case) -> str:
    low, high = row["interval"]
    cells = [
        row["model"].removeprefix("efficient"),
        _what_is_done(case, row["recipe"]["name"]),
        f"{row['metric']} {row['before']:.3f}",
        f"{row['after']:.3f}",
        f"{row['drop'] + 0:+.4f} ({low:+.4f} to {high:+.4f})",
        f"{row['sparsity']:.0%}",
        f"{row['int8_macs']:.0%}",
        f"{row['bytes'] / 1000:.0f}",
        f"{row['gzipped_bytes'] / 1000:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _what_is_done(case: Case, recipe: str) -> str:
    notes = {
        "channels rescaled before": case.rescaled,
        "TensorFlow's converter": case.backend == "tensorflow",
        f"--max-drop {case.max_drop}": case.max_drop is not None,
    }
    return ", ".join([f"`{recipe}`", *(note for note, is_true in notes.items() if is_true)])


def _speed_line(row: results.Row) -> str:
    cells = [
        row["model"],
        str(row["side"]),
        f"`{row['recipe']}`",
        f"{row['macs_before'] / 1e9:.2f} G",
        f"{row['macs_after'] / 1e9:.2f} G",
        f"{row['before']['min_ms']:.1f}",
        f"{row['after']['min_ms']:.1f}",
        f"{row['faster']:.2f} x",
    ]
    return f"| {' | '.join(cells)} |"


def _run(argv: Sequence[str] | None) -> None:
    chosen = _options(argv)
    cases = read_cases()
    known = [*cases, SPEED]
    for name in chosen.only or known:
        if name not in known:
            raise EffkerasError(f"there is no case {name!r}; {did_you_mean(name, known)}")
    for name in chosen.only or known:
        note(f"case {name}")
        if name == SPEED:
            _time(chosen.out)
            continue
        row = measure(cases[name], _digits(chosen.data, cases[name].model), chosen.work / name)
        stamped = results.stamped({**row, "case": name, "goal": cases[name].goal})
        results.append(chosen.out, [stamped])
        print(_line(stamped, cases[name]), flush=True)
    rows = results.read(chosen.out)
    print(f"{markdown(rows)}\n\n{speed_markdown(rows)}")


def _time(out: Path) -> None:
    with quiet():
        rows = [results.stamped(row) for row in speed_rows()]
    results.append(out, rows)


def measure(case: Case, data: Path, folder: Path) -> dict[str, Any]:
    """Runs one case and returns its row."""
    with quiet():
        import effkeras
        from effkeras.layers.normalize import spec_of
        from export.benchmarks.random_models import rescaled
        from quantize.compression import CompressOptions, compress
        from quantize.distillation import probe
        from quantize.splits import Splits

        model = effkeras.build(case.model, weights="digits")
    splits = Splits.open(data, spec_of(model)).shortened(case.images)
    if case.rescaled:
        assert splits.train is not None
        model = rescaled(model, probe(splits.train, spec_of(model))[:, None])
    options = CompressOptions(
        max_drop=case.max_drop,
        settings=settings_of(case.model, None),
        folder=folder,
        force=True,  # a case reports the drop, however large it is
    )
    return compress(model, case.tuned_recipe(), splits, options).to_row()


def speed_rows(
    cases: Sequence[SpeedCase] = SPEED_CASES, spec: ChannelSpec | None = None, plan: Plan | None = None
) -> Iterator[dict[str, Any]]:
    """Latencies before and after pruning: one row of kind "channel-speed" for each model and recipe.

    All artifacts of a model take turns on XNNPACK with one thread, so that other load affects all alike.
    `faster` is the ratio of the shortest runs, `faster_median` the ratio of the medians.
    """
    import effkeras
    from effkeras.litert.latency import Plan
    from quantize.channels.pruning import prune_channels
    from quantize.specs import ChannelSpec

    spec, plan = spec or ChannelSpec(), plan or Plan(runs=50, warmup=5)
    for case in cases:
        model = effkeras.build(case.model, input_shape=(case.side, case.side))
        pruned = prune_channels(model, spec)
        yield from _speed_rows(case, spec, pruned, _timed_pair(model, pruned.model, plan))


def _timed_pair(model: keras.Model, pruned: keras.Model, plan: Plan) -> list[Latency]:
    """Latencies in the order of `SPEED_RECIPES`, before and after for each."""
    from effkeras.litert.latency import InterpreterOptions, measure_all
    from export.benchmarks.random_models import artifacts_on_random_images

    options = InterpreterOptions(xnnpack=True, threads=1)
    both = [artifacts_on_random_images(one, SPEED_RECIPES) for one in (model, pruned)]
    return measure_all([(made[recipe], options) for recipe in SPEED_RECIPES for made in both], plan)


def _speed_rows(
    case: SpeedCase, spec: ChannelSpec, pruned: Compressed, timed: list[Latency]
) -> Iterator[dict[str, Any]]:
    for index, recipe in enumerate(SPEED_RECIPES):
        before, after = timed[2 * index : 2 * index + 2]
        yield {
            "kind": "channel-speed",
            "model": case.model,
            "side": case.side,
            "recipe": recipe,
            "keep": spec.keep,
            **{name: int(value) for name, value in pruned.report.figures.items()},
            "before": before.to_row(),
            "after": after.to_row(),
            "faster": round(before.min_ms / after.min_ms, 3),
            "faster_median": round(before.typical_ms / after.typical_ms, 3),
        }


def _digits(root: Path, model: str) -> Path:
    """The folder with the shipped models' training images, and images for validation and test."""
    classify = model.startswith("efficientnet")
    folder = root / ("digits-classes" if classify else "digits-train")
    write_digits(
        folder,
        DigitsOptions(train=8000 if classify else 12000, size=32 if classify else 128, classify=classify),
    )
    return folder


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("compression-bench", "Measures what compression costs the shipped models.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument("--data", type=Path, default=Path("data"), help="where the digits are drawn")
    options.add_argument("--work", type=Path, default=Path("runs/compression"), help="where work is kept")
    options.add_argument("--only", nargs="+", metavar="CASE", help="these cases only")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
