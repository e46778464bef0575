"""Exports a SavedModel folder: traces the model, writes a temporary folder, checks it, and moves it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from PIL import Image

from effkeras.building.sources import SAVED_MODEL, file_stem, is_saved_model, open_model, run_folder
from effkeras.data.images import read_image
from effkeras.data.reading import UnusableImages
from effkeras.data.records import LabelledData, ReadOptions
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.artifacts.saved_model import DEFAULT, DEFINITION, SavedModel
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.support import results
from effkeras.support.console import note, note_once, quiet, track
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.files import check_can_make, own_temporary_files, whole_folder, write_text
from effkeras.support.locks import working_on
from effkeras.training.run import kept_options
from export.savedmodel.check import Agreement, CheckFailedError, agreement
from export.savedmodel.signatures import Answering, assets, described
from quantize.post_training.calibration import representative

if TYPE_CHECKING:
    import keras


__all__ = ["CheckFailedError", "SavedModelReport", "export_savedmodel"]

IMAGES = 4
_PARTS = frozenset({SAVED_MODEL, "fingerprint.pb", "variables", "assets"})


@dataclass(frozen=True, slots=True)
class SavedModelOptions:
    """What to export and how to check it.

    The check uses images of the data set `data` from `split` (default: "test", else "val"), or generated
    images if `data` is None. `skip_bad` and `one_based` are as in `open_data`. The SavedModel omits
    detections with a score below `min_score`.
    """

    data: Path | None = None
    split: str | None = None
    skip_bad: bool = False
    one_based: bool = False
    min_score: float = 0.0
    weights: str | None = None
    out: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class SavedModelReport:
    """The exported folder: its signatures, the default signature's outputs, its size in bytes, the check."""

    folder: Path
    spec: ModelSpec
    signatures: Mapping[str, str]
    answers: Mapping[str, str]
    size: int
    agreement: Agreement

    def to_row(self) -> dict[str, Any]:
        """The report as a plain record of kind "savedmodel"."""
        return {
            "kind": "savedmodel",
            "model": self.spec.name,
            "input_size": list(self.spec.input.size),
            "artifact": self.folder.name,
            "bytes": self.size,
            "signatures": dict(self.signatures),
            **self.agreement.to_row(),
            "passed": True,
        }


def export_savedmodel(source: str | Path, options: SavedModelOptions) -> SavedModelReport:
    """Exports a SavedModel folder that gives the same results as the model.

    If `source` is a run folder, the report is appended to its results.jsonl.

    Args:
        source: a run folder, a .keras file, a zoo name or a TOML file.
        options: weights, output folder and check.

    Raises:
        CheckFailedError: the SavedModel's results differ from the model's or are not finite; nothing is
            written.
        EffkerasError: bad options, a missing model or missing images, or no space for the result.
    """
    out = options.out or _default_out(str(source))
    _check(out, options)
    if options.data is not None:
        given = ReadOptions(skip_bad=options.skip_bad, one_based=options.one_based)
        kept = kept_options(source, options.data, given)
        options = replace(options, skip_bad=kept.skip_bad, one_based=kept.one_based)
    model = open_model(str(source), options.weights)
    with working_on(out, "effkeras export savedmodel"):
        report = _made(model, out, options, trained=_has_weights(Path(source), options))
    run = run_folder(str(source))
    if run is not None:
        results.append(run / "results.jsonl", [results.stamped(report.to_row())])
    return report


def check_images(spec: ModelSpec, options: SavedModelOptions) -> list[np.ndarray]:
    """Images for the check, uint8 (h, w, 3): from the data, of varied classes, or else generated."""
    if options.data is None:
        return [_generated(spec.input.size, seed) for seed in range(IMAGES)]
    from effkeras.data.splits import find_split, open_data

    split = options.split or find_split(options.data, "test", "val") or "test"
    data = open_data(options.data, split, skip_bad=options.skip_bad, one_based=options.one_based)
    return list(itertools.islice(_usable(data), IMAGES))


def _usable(data: LabelledData) -> Iterator[np.ndarray]:
    """The images of varied classes. Raises EffkerasError for a bad one, unless bad ones are skipped."""
    unusable = UnusableImages(data)
    for record in representative(data, len(data.records)):
        try:
            yield read_image(record.path)
        except EffkerasError as error:
            unusable.add(record.path, error)
            unusable.check()
            note_once(f"skipped: {error}")


def _default_out(source: str) -> Path:
    run = run_folder(source)
    return run / "artifacts" / "savedmodel" if run else Path(f"{file_stem(source)}-savedmodel")


def _check(out: Path, options: SavedModelOptions) -> None:
    if math.isnan(options.min_score):
        raise EffkerasError("--min-score must be a number")
    check_can_make(out.parent)  # fail before minutes of work
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() and not (is_saved_model(out) and (out / DEFINITION).is_file()):
        raise EffkerasError(
            f"{out} exists and is no SavedModel of effkeras; remove it, or give another --out"
        )
    for stranger in sorted({path.name for path in out.glob("*")} - _PARTS):
        raise EffkerasError(
            f"{out} would be replaced, and holds {stranger} too; move it, or give another --out"
        )


def _has_weights(source: Path, options: SavedModelOptions) -> bool:
    """Whether the weights are not random; a model with random weights may give all images one result."""
    return source.is_dir() or source.suffix == ".keras" or options.weights is not None


def _made(model: keras.Model, out: Path, options: SavedModelOptions, *, trained: bool) -> SavedModelReport:
    spec = spec_of(model)
    images = check_images(spec, options)
    module = Answering(model, spec, options.min_score)
    signatures = module.signatures()
    traced = {one.name: one.traced() for one in track(signatures, "tracing")}
    answers = traced[DEFAULT].structured_outputs
    with ExitStack() as stack:
        aside = stack.enter_context(whole_folder(out))
        beside = Path(stack.enter_context(TemporaryDirectory()))
        module.assets = _assets(assets(spec, signatures, answers), beside)
        note("writing")
        _save(module, traced, aside, out)
        agreed = agreement(KerasPredictor(model, spec), SavedModel.open(aside), images, options.min_score)
        if problem := agreed.problem(trained=trained):
            raise CheckFailedError(f"{problem}; nothing was written")
        size = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
    return SavedModelReport(
        folder=out,
        spec=spec,
        signatures={one.name: f"{one.takes.name}: {described(one.takes)}" for one in signatures},
        answers={name: described(one) for name, one in answers.items()},
        size=size,
        agreement=agreed,
    )


def _assets(texts: Mapping[str, str], folder: Path) -> list[Any]:
    """Files that TensorFlow copies into assets/."""
    for name, text in texts.items():
        write_text(folder / Path(name).name, text)
    return [tf.saved_model.Asset(str(file)) for file in sorted(folder.iterdir())]


def _save(module: Answering, signatures: Mapping[str, Any], folder: Path, out: Path) -> None:
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)  # it is not for training
    try:
        with quiet(), own_temporary_files():
            tf.saved_model.save(module, str(folder), dict(signatures), options)
    except tf.errors.OpError as error:  # for example a full disk
        raise EffkerasError(f"cannot write {out}: {first_line(error)}") from error


def _generated(size: tuple[int, int], seed: int) -> np.ndarray:
    """An image of coloured patches; depending on the seed wide, tall, or smaller than the input."""
    random = np.random.default_rng(seed)
    stretch = ((1, 1), (1, 1.5), (1.5, 1), (0.4, 0.6))[seed % 4]
    height, width = (max(1, round(side * factor)) for side, factor in zip(size, stretch, strict=True))
    patches = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
    return np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC))
