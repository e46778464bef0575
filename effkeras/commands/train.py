"""`effkeras train MODEL --data DIR --out RUN`: trains into a run folder; resumes if repeated."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from effkeras.building.backbones import spec_with_backbone
from effkeras.data.augmentations import PRESET, AugmentSpec, preset_names
from effkeras.data.records import LabelledData, ReadOptions
from effkeras.data.splits import TooFewImagesError, find_split, read_split
from effkeras.definitions.changes import Regularization, regularized, with_heads, with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.zoo import saved_weights
from effkeras.support import results
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import hint, note, quiet, result, run_command, say, warn
from effkeras.support.errors import EffkerasError
from effkeras.support.files import check_can_make
from effkeras.support.locks import working_in
from effkeras.support.options import (
    MODEL_HELP,
    Verb,
    above_zero,
    add_backbone,
    add_data,
    add_json,
    height_and_width,
    not_negative,
    parser,
)
from effkeras.training.checkpoint import read_progress
from effkeras.training.defaults import Facts, finetune, preset_for, settings_for
from effkeras.training.launching import Launch, start_workers
from effkeras.training.recipes import FINETUNE, Recipe, for_batch, recipe_of
from effkeras.training.run import Run, kept_options
from effkeras.training.settings import LENGTHS, TrainSettings, settings_over
from effkeras.training.strategies import DEVICES_HELP, open_strategy, request_of
from effkeras.training.strategies.cluster import cluster_of, is_worker
from effkeras.weights.cards import backbone_with, is_here

_SETTINGS = (
    *LENGTHS,
    "batch",
    "accumulate",
    "optimizer",
    "learning_rate",
    "seed",
    "freeze",
    "patience",
    "label_smoothing",
    "box_loss",
    "class_weights",
    "mixed_precision",
)
_REGULARIZERS = ("dropout", "survival", "drop_block")
IMAGENET, RANDOM = "imagenet", "none"  # names of weights
_SWITCHES = ("early_stop",)


VERB = Verb("train", "train a model on labelled images")


def main(argv: Sequence[str] | None = None) -> int:
    """Starts or resumes a training."""
    return run_command(lambda: _run(argv), resumes=True)


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    if (chosen.workers is not None or chosen.ray is not None) and not is_worker():
        words = (VERB.name, *(sys.argv[1:] if argv is None else argv))
        return start_workers(Launch(words, chosen.out), chosen.workers, chosen.ray)
    need_tensorflow("training")
    cluster = cluster_of()
    request = request_of(chosen.devices, cluster)
    if cluster:
        note(f"worker {cluster.number} at {cluster.workers[cluster.number]} of {len(cluster.workers)} in all")
    given = {name: getattr(chosen, name) for name in _REGULARIZERS}
    spec = regularized(spec_with_backbone(chosen.model, chosen.backbone), Regularization(**given))
    if chosen.heads:
        spec = with_heads(spec, chosen.heads)
    if chosen.input:
        spec = with_size(spec, chosen.input)
    backbone = _backbone_file(chosen)
    weights = _weights(chosen, spec) if backbone is None else None
    recipe = recipe_of(chosen.config, spec)
    settings_over(recipe.table, recipe.where, _overrides(chosen))  # mistakes are told before data are read
    recipe, scaled = for_batch(recipe, _overrides(chosen))
    if scaled:
        note(scaled)
    options = _reading(chosen, spec)
    data = read_split(chosen.data, find_split(chosen.data, "train") or "train", options)
    settings = _settings(chosen, recipe, Facts(len(data.records), spec.is_detector, spec.detects))
    validation = _validation(chosen.data, options)
    note(f"{len(data.records)} images of {len(data.labels)} classes; loading TensorFlow")

    with quiet():
        strategy = open_strategy(request)
        from effkeras.training.loop import Job, train

    job = Job(
        spec,
        data,
        validation,
        settings,
        chosen.out,
        weights,
        anchors=chosen.anchors,
        backbone=backbone,
        accept_data=chosen.accept_data,
        strategy=strategy,
    )
    if not strategy.is_chief:
        train(job)
        return 0
    check_can_make(chosen.out)
    with working_in(chosen.out, f"effkeras {VERB.name}"):
        train(job)
    say(f"{chosen.out}: trained")
    result(lambda: _record(Run(chosen.out)))
    hint(shlex.join(["effkeras", "eval", str(chosen.out), "--data", str(chosen.data)]))
    return 0


def _record(run: Run) -> dict[str, Any]:
    """The run, and the row of its best validation; None without one."""
    best = read_progress(run.checkpoint).best_step
    rows = {row["step"]: row for row in results.read(run.results) if row.get("kind") == "epoch"}
    return {"run": str(run.folder), "model": str(run.model), "best": rows.get(best)}


def _weights(chosen: argparse.Namespace, spec: ModelSpec) -> str | None:
    """The initial weights: --weights, those saved with the model, or a detector's backbone's of ImageNet."""
    is_resumed = Path(chosen.model).resolve() == chosen.out.resolve()
    own = None if chosen.backbone or is_resumed else saved_weights(chosen.model)
    if own is None:
        is_fresh = chosen.weights is None and not Run(chosen.out).checkpoint.is_file()
        return _backbone_weights(spec) if is_fresh else _named(chosen.weights)
    if chosen.weights:
        raise EffkerasError(
            f"{chosen.model} has its own weights; --weights goes with a zoo name or a TOML file"
        )
    note(f"starting from the weights in {own}")
    return str(own)


def _backbone_file(chosen: argparse.Namespace) -> Path | None:
    """The saved model that --backbone names, whose weights are the start if no others are chosen."""
    file = saved_weights(chosen.backbone)
    if file is None or chosen.weights:
        return None
    if not Run(chosen.out).checkpoint.is_file():
        note(f"the backbone starts from the weights in {file} (--weights {RANDOM}: random ones)")
    return file


def _named(weights: str | None) -> str | None:
    return None if weights == RANDOM else weights


def _backbone_weights(spec: ModelSpec) -> str | None:
    """A detector's start where none is chosen: its backbone's ImageNet weights, if they are here."""
    backbone = backbone_with(spec, IMAGENET)
    if backbone is None:
        return None
    if is_here(backbone, IMAGENET):
        note(f"the backbone starts from {backbone.name}'s ImageNet weights (--weights {RANDOM}: random ones)")
        return IMAGENET
    note(
        f"the backbone starts from random weights; {backbone.name}'s of ImageNet would train far better: "
        f"`effkeras weights {backbone.name}` says how to get them"
    )
    return None


def _reading(chosen: argparse.Namespace, spec: ModelSpec) -> ReadOptions:
    """How to read the data: as the options say, or the run that is resumed or continued."""
    options = ReadOptions(chosen.skip_bad, spec.segments, chosen.one_based)
    for source in (chosen.out, chosen.model):
        options = kept_options(source, chosen.data, options)
    return options


def _validation(root: Path, options: ReadOptions) -> LabelledData | None:
    split = find_split(root, "val")
    if split is None:
        warn(f"{root} has no split val: training without validation")
        return None
    try:
        return read_split(root, split, options)
    except TooFewImagesError as error:
        warn(f"{error}: training without validation")
        return None


def _settings(chosen: argparse.Namespace, recipe: Recipe, facts: Facts) -> TrainSettings:
    """The settings of options and --config, on top of those of a run that goes on, or of the defaults."""
    kept = Run(chosen.out).kept_settings()
    read = partial(settings_over, recipe.table, recipe.where, _overrides(chosen))
    if kept or recipe.is_whole:
        return read(kept.to_table() if kept else {})
    settings, passes = settings_for(read, facts)
    preset = preset_for(facts, passes)
    if settings.augment == AugmentSpec.from_table({PRESET: preset}, "") and not chosen.augment:
        times = f"{passes:,.0f} times" if passes >= 1.5 else "once or less"
        often = f", seen {times} each" if passes else ""
        note(f"augmentation {preset!r}, for {facts.images:,} images{often} (--augment: another)")
    return settings


def _overrides(chosen: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(chosen, name) for name in _SETTINGS if getattr(chosen, name) is not None}
    preset = {"augment": {PRESET: chosen.augment}} if chosen.augment else {}
    return given | preset | {name: True for name in _SWITCHES if getattr(chosen, name)}


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Trains a model on labelled images. The same command again resumes.")
    options.add_argument("model", help=f"{MODEL_HELP}; training starts from the weights that are there")
    add_data(options)
    add_backbone(options)
    options.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run folder")
    options.add_argument(
        "--heads",
        type=lambda text: text.split(","),
        metavar="H,H",
        help="what a detector puts out: detect (boxes), segment (masks), or detect,segment",
    )
    options.add_argument(
        "--input",
        type=height_and_width,
        metavar="HxW",
        help="pixels of the network's input (default: the model's)",
    )
    options.add_argument(
        "--anchors",
        choices=["auto", "own"],
        default="auto",
        help="a new detector's anchors: fitted to the boxes (default), or the model's own",
    )
    options.add_argument("--weights", help="start from: a name of `effkeras weights`, a file, or none")
    options.add_argument(
        "--config",
        metavar="NAME|TOML",
        help=f"a recipe of the model's family (paper: its authors'; default: {FINETUNE}), or a file of "
        "settings; the options below override it",
    )
    _add_lengths(options)
    options.add_argument("--batch", type=above_zero, help=f"images a step ({_default('batch')})")
    options.add_argument(
        "--accumulate",
        type=above_zero,
        metavar="N",
        help="steps whose gradients make one update (default: 1)",
    )
    options.add_argument(
        "--optimizer", metavar="NAME", help="adamw (default), sgd, rmsprop, lion or another of Keras's"
    )
    options.add_argument("--learning-rate", type=float, help=f"the peak ({_default('learning_rate')})")
    options.add_argument(
        "--augment", choices=preset_names(), help="a preset; [augment] of --config overrides"
    )
    options.add_argument(
        "--freeze", metavar="PART", help="what keeps its weights: backbone, stages:N (its first N) or none"
    )
    options.add_argument("--early-stop", action="store_true", help="end when validation stops improving")
    options.add_argument("--patience", type=above_zero, help="validations to wait for that")
    _add_devices(options)
    options.add_argument(
        "--mixed-precision",
        nargs="?",
        const="bfloat16",
        metavar="TYPE",
        help="compute in bfloat16 or, with a scaled loss, float16 (default: float32; TYPE: bfloat16)",
    )
    options.add_argument(
        "--label-smoothing",
        type=float,
        metavar="SHARE",
        help="share of each target that is spread over all classes (default: 0)",
    )
    options.add_argument("--box-loss", metavar="NAME", help="giou (default), ciou, iou or huber")
    options.add_argument(
        "--class-weights", metavar="HOW", help="balanced: rare classes weigh more; none (default)"
    )
    options.add_argument("--seed", type=int, help="default: 0")
    options.add_argument(
        "--memory",
        type=not_negative,
        metavar="GIB",
        help="for decoded training images (default: 2); more images are decoded anew in each epoch",
    )
    options.add_argument(
        "--accept-data", action="store_true", help="go on with images or labels that have changed"
    )
    _add_regularizers(options)
    add_json(options)
    return options


def _add_devices(options: argparse.ArgumentParser) -> None:
    group = options.add_argument_group("devices", "How they share a training: docs/devices.md.")
    group.add_argument("--devices", metavar="KIND", help=DEVICES_HELP)
    group.add_argument(
        "--workers",
        metavar="HOSTFILE|N",
        help="start a process on each host of a file, a HOST or HOST:PORT a line, this machine's first; with "
        "--ray, their number",
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="start --workers N on a Ray cluster: auto or HOST:PORT of its head",
    )


def _default(name: str) -> str:
    """The default of a setting, for help."""
    detector, classifier = (finetune(Facts(0, is_detector))[name] for is_detector in (True, False))
    return f"default: {detector:g}; {classifier:g} to classify"


def _add_lengths(options: argparse.ArgumentParser) -> None:
    lengths = options.add_mutually_exclusive_group()
    lengths.add_argument("--epochs", type=above_zero, help="passes over the images")
    lengths.add_argument("--steps", type=above_zero, help="or: batches to train on")
    lengths.add_argument(
        "--minutes", type=float, help="or: time to take, validation included (default: chosen by the data)"
    )


def _add_regularizers(options: argparse.ArgumentParser) -> None:
    group = options.add_argument_group("regularisers", "Shares of 0 to 1; default: what the model says.")
    helps = {
        "dropout": "dropped before a classifier's last layer",
        "survival": "kept of the last block's or cell's branches",
        "drop-block": "DropBlock: kept of the last maps at the end of the training",
    }
    for name, text in helps.items():
        group.add_argument(f"--{name}", type=float, metavar="SHARE", help=text)
