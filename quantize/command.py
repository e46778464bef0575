"""`python -m quantize MODEL --recipe R --data DIR`: a smaller model and its artifact, measured."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.building.sources import file_stem, open_model, run_folder
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import facts, quiet, result, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.files import safe_name
from effkeras.support.options import (
    MODEL_HELP,
    Verb,
    above_zero,
    add_data,
    add_json,
    add_weights,
    explained,
    parser,
)
from effkeras.training.recipes import recipe_of
from effkeras.training.run import kept_options
from effkeras.training.settings import TrainSettings, settings_over
from quantize import formats, recipes

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec
    from quantize.compression import Compression


VERB = Verb("quantize", "compress a model by a recipe: pruning, channels, QAT, int8")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 if the artifact was refused."""
    return run_command(lambda: _run(argv), resumes=True)


def _run(argv: Sequence[str] | None) -> int:
    begun = time.monotonic()
    chosen = _parser().parse_args(argv)
    need_tensorflow("compression")
    recipe = _tuned(recipes.find(chosen.recipe), chosen)
    folder = chosen.out or work_folder(chosen.model, recipe.name)
    settings = settings_of(chosen.model, chosen.config)
    from effkeras.data.splits import check_exists

    check_exists(chosen.data)
    opened = open_model(chosen.model, chosen.weights)
    with quiet():
        from effkeras.building.external import adopted
        from effkeras.data.records import ReadOptions
        from effkeras.inference.threshold import kept_threshold
        from effkeras.layers.normalize import spec_of
        from quantize.acceptance import Verdict, advice_for, announce, beyond_budget
        from quantize.compression import CompressOptions, artifact_file, compress
        from quantize.runs.cards import card_path
        from quantize.splits import Splits, SplitsOptions
        from quantize.time_limit import TimeLimit

        model = adopted(opened)
    given = ReadOptions(skip_bad=chosen.skip_bad, one_based=chosen.one_based)
    reading = kept_options(chosen.model, chosen.data, given)
    splits = Splits.open(chosen.data, spec_of(model), SplitsOptions(reading=reading))
    options = CompressOptions(
        max_drop=chosen.max_drop,
        io=chosen.io,
        samples=chosen.samples,
        strict=chosen.strict,
        backend=chosen.backend,
        settings=settings,
        folder=folder,
        force=chosen.force,
        beside=True,
        limit=TimeLimit(chosen.minutes, begun) if chosen.minutes else None,
        threshold=kept_threshold(chosen.model),
        trained_in=run_folder(chosen.model),
    )
    made = compress(model, recipe, splits, options)
    show(made)
    artifact = artifact_file(folder, recipe, chosen.io)
    result({**made.to_row(), "folder": str(folder), "artifact": str(artifact)})
    over = beyond_budget(made.decided_on, made.validated, chosen.max_drop)
    reasons, advice = made.problems or ((over,) if over else ()), advice_for(recipe)
    verdict = Verdict(made.passed, reasons, made.ruined, made.lost, advice)
    earlier = f", and {artifact} is an earlier one" if artifact.exists() else ""
    files = [file.relative_to(folder) for file in (artifact, card_path(artifact))]
    written = f"{folder}: written, with {' and '.join(map(str, files))}"
    return announce(verdict, written, f"no artifact was written{earlier}")


def show(made: Compression) -> None:
    """Prints the result of a compression."""
    drop, figures = made.drop, made.figures
    rows = [
        (f"{drop.metric} before", f"{drop.before:.4f} ({made.reported_on})"),
        (f"{drop.metric} after", f"{drop.after:.4f}"),
        ("drop", f"{drop.drop:.4f}, with {drop.level:.0%} between {drop.low:.4f} and {drop.high:.4f}"),
        ("decided on", made.decided_on),
        (f"drop on {made.decided_on}", f"{made.validated:.4f}"),
        ("size", f"{figures['bytes']:,} bytes, {figures['gzipped_bytes']:,} gzipped"),
        ("parameters", f"{figures['parameters']:,}"),
        ("zeros", f"{figures['sparsity']:.1%} of the weights"),
        ("in int8", f"{figures['int8_macs']:.1%} of the multiply-adds"),
        ("XNNPACK runs", str(made.delegated)),
    ]
    if made.agreement is not None:
        rows.insert(3, ("agrees", f"{made.agreement:.1%} of the images have the model's best class"))
    facts(f"{made.recipe.name}", rows)
    if made.beside is not None:
        made.beside.show()


def settings_of(source: str, config: str | None) -> TrainSettings:
    """The training settings of a model: from `config`, its run folder, or the file beside its definition.

    `config` is a file, or the name of a recipe of the model's family, as `effkeras train` reads it.
    """
    beside = next((str(file) for file in _settings_files(source) if file.is_file()), None)
    recipe = recipe_of(config or beside, _definition(source))
    return settings_over(recipe.table, recipe.where, {})


def _definition(source: str) -> ModelSpec | None:
    """The definition of a model; None for a Keras model of another origin."""
    from effkeras.definitions import zoo

    try:
        return zoo.spec(source)
    except EffkerasError:  # what is wrong with it is said when it is opened
        return None


def _settings_files(source: str) -> list[Path]:
    path = Path(source)
    beside = [path / "train.toml", path.with_name(f"{path.stem}.train.toml")]
    if path.exists():
        return beside
    from effkeras.definitions import zoo

    definition = zoo.definition_path(source)
    return [] if definition is None else [definition.with_name(f"{definition.stem}.train.toml")]


def work_folder(source: str, name: str) -> Path:
    """The work folder without --out: inside the run folder, or else in the current folder."""
    name, run = safe_name(name, "the recipe's name"), run_folder(source)
    return run / "compressed" / name if run else Path(f"{file_stem(source)}-{name}")


def _tuned(recipe: recipes.Recipe, chosen: argparse.Namespace) -> recipes.Recipe:
    """The recipe with the training settings given on the command line."""
    given = {name: getattr(chosen, name) for name in ("epochs", "batch", "learning_rate", "seed")}
    changed = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(recipe, tune=dataclasses.replace(recipe.tune, **changed))


def add_minutes(options: argparse.ArgumentParser) -> None:
    """Adds --minutes."""
    options.add_argument(
        "--minutes",
        type=positive,
        metavar="M",
        help="of the whole command; tunings take what fits",
    )


def positive(text: str) -> float:
    """A number above 0. Raises argparse.ArgumentTypeError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0 or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def add_force(options: argparse.ArgumentParser) -> None:
    """Adds --force."""
    options.add_argument(
        "--force", action="store_true", help="write a file that lost over a fifth of its metric"
    )


def recipe_help() -> str:
    """All words and formats for the name of a recipe, at most 80 columns wide."""
    words = [explained(word, meaning) for word, meaning in recipes.words().items()]
    of_formats = [explained(name, formats.find(name).summary) for name in formats.names()]
    return "\n".join(["words of a recipe, joined by -, the format last:", *words, "formats:", *of_formats])


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Compresses a model by a recipe. The same command again resumes.")
    options.epilog = recipe_help()
    options.add_argument("model", help=MODEL_HELP)
    options.add_argument(
        "--recipe", required=True, metavar="R", help="such as prune50-int8 (see below), or a TOML file"
    )
    add_data(options)
    options.add_argument("--max-drop", type=float, metavar="D", help="what may be lost on val, such as 0.01")
    add_force(options)
    options.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/compressed/RECIPE")
    options.add_argument(
        "--io", choices=["float32", "uint8", "int8"], default="float32", help="inputs and outputs"
    )
    options.add_argument(
        "--samples", type=above_zero, default=128, metavar="N", help="calibration images (default: 128)"
    )
    options.add_argument("--strict", action="store_true", help="refuse layers that would stay in float")
    options.add_argument("--backend", choices=["effkeras", "tfmot"], default="effkeras", help="what trains")
    options.add_argument("--config", metavar="NAME|TOML", help="training settings, for augmentation")
    options.add_argument(
        "--epochs",
        type=above_zero,
        metavar="N",
        help="of a tuning, at most (default: 3 or 600 steps)",
    )
    add_minutes(options)
    options.add_argument("--batch", type=above_zero, metavar="N", help="images a step (default: 16)")
    options.add_argument("--learning-rate", type=float, metavar="R", help="the peak (default: 0.0005)")
    options.add_argument("--seed", type=int, metavar="N", help="default: 0")
    add_weights(options)
    add_json(options)
    return options
