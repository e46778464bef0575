"""`effkeras data show DIR`: a contact sheet of a data set, as it is and as training sees it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from effkeras.data.augmentations import PRESET, preset_names
from effkeras.data.reading import RecordReader, sides
from effkeras.data.records import ClassificationRecord, DetectionData, DetectionRecord, LabelledData
from effkeras.data.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    check_exists,
    find_split,
    format_of,
    open_data,
    spread,
)
from effkeras.definitions import zoo
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.inference.contact_sheet import Sheet, Tile, contact_sheet
from effkeras.inference.data_tiles import mask_classes_of, masks_in, plain_tile, tiles_of
from effkeras.support.console import note, quiet, run_command, say, warn
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.files import whole_file
from effkeras.support.options import MODEL_HELP, Verb, above_zero, add_one_based, parser
from effkeras.training.defaults import Facts, settings_for
from effkeras.training.recipes import Recipe, recipe_of
from effkeras.training.settings import TrainSettings, settings_over

if TYPE_CHECKING:
    from effkeras.data.augmentations.batches import Batch

VERB = Verb("data show", "draw images with boxes, as stored and as training sees them")
_INPUT = InputSpec(
    (512, 512), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), resize="letterbox"
)
_GREY = np.full((120, 160, 3), 200, np.uint8)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws a contact sheet."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    if chosen.out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise EffkerasError(f"{chosen.out} is no image file; give --out a name that ends in .png")
    model = zoo.spec(chosen.model) if chosen.model else None
    recipe, preset = _recipe(chosen, model)
    spec = model.input if model else _INPUT
    split = chosen.split or _first_split(chosen.dir)
    data = open_data(chosen.dir, split, skip_bad=True, masks=True, one_based=chosen.one_based)
    few = spread(data, chosen.images)
    tiles = tiles_of(few)
    settings = _settings(recipe, preset, data) if recipe else None
    title = f"{chosen.dir.resolve().name}, {data.split}: {len(few.records):,} of {len(data.records):,} images"
    if settings:
        trained = _as_trained(few, spec, settings)
        tiles = [tile for pair in zip(tiles, trained, strict=True) for tile in pair]
        title += "; right of each: as training sees it"
    page = contact_sheet(tiles, Sheet(title, data.labels))
    with whole_file(chosen.out) as temporary:
        page.save(temporary)
    say(f"{chosen.out}: {len(few.records)} images, {page.width} x {page.height} pixels")


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Draws a contact sheet: images with boxes, class names and masks.")
    options.add_argument("dir", type=Path, metavar="DIR", help="the data set: a folder or file of any format")
    options.add_argument("--split", help="the part of the data to show (default: train)")
    options.add_argument("--images", type=above_zero, default=16, metavar="N", help="how many (default: 16)")
    options.add_argument(
        "--augment",
        metavar="PRESET",
        help=f"beside each image, show it as `train --augment` does: {', '.join(preset_names())}",
    )
    options.add_argument(
        "--config",
        metavar="NAME|TOML",
        help="or as `train --config` does: a file of settings, or with --model a recipe of its family",
    )
    options.add_argument(
        "--model", help=f"whose input size and recipes are used (default: 512 x 512): {MODEL_HELP}"
    )
    options.add_argument(
        "--out", type=Path, default=Path("sheet.png"), metavar="FILE", help="default: sheet.png"
    )
    add_one_based(options)
    return options


def _recipe(chosen: argparse.Namespace, model: ModelSpec | None) -> tuple[Recipe | None, str | None]:
    """The recipe of --config, None without it and --augment; and the preset of --augment."""
    config, preset = chosen.config, chosen.augment
    if preset and preset not in preset_names():
        if Path(preset).suffix != ".toml":
            raise EffkerasError(
                f"there is no preset {preset!r} of augmentations; {did_you_mean(preset, preset_names())}"
            )
        warn(f"--augment {preset} is now --config {preset}; the next version will not read it there")
        config, preset = preset, None
    return (recipe_of(config, model) if config or preset else None), preset


def _settings(recipe: Recipe, preset: str | None, data: LabelledData) -> TrainSettings:
    """The settings that `effkeras train` would take for these images."""
    facts = Facts(len(data.records), isinstance(data, DetectionData))
    given = {"augment": {PRESET: preset}} if preset else {}
    read = partial(settings_over, recipe.table, recipe.where, given)
    return read({}) if recipe.is_whole else settings_for(read, facts)[0]


def _first_split(root: Path) -> str:
    """train, or another split that is there."""
    check_exists(root)
    return find_split(root, TRAIN, VALIDATION, TEST) or format_of(root).splits(root)[0]


def _as_trained(data: LabelledData, spec: InputSpec, settings: TrainSettings) -> list[Tile]:
    """The images as training sees them in its first epoch; grey where it leaves an image out."""
    places = [place for place, one in enumerate(data.records) if _is_usable(one, spec)]  # type: ignore[arg-type]
    usable = replace(data, records=tuple(data.records[place] for place in places))  # type: ignore[arg-type]
    tiles = [plain_tile(_GREY, "training leaves this image out", "") for _ in data.records]
    if not places:
        return tiles
    note("loading TensorFlow")
    with quiet():
        from effkeras.data.store import ImageStore
        from effkeras.training.pipeline import training_images

    store = ImageStore(usable, spec, mask_classes_of(usable))
    samples = [store[number] for number in range(len(places))]
    classes = None if isinstance(data, DetectionData) else len(data.labels)
    batch = training_images(samples, spec, settings.augment, settings.seed, classes)
    for number, place in enumerate(places):
        record = data.records[place]
        name = data.labels[record.label] if isinstance(record, ClassificationRecord) else ""
        tiles[place] = _augmented_tile(batch, number, record, name)
    return tiles


def _is_usable(record: DetectionRecord | ClassificationRecord, spec: InputSpec) -> bool:
    try:
        RecordReader(spec).read(record)
    except EffkerasError:
        return False
    return True


def _augmented_tile(
    batch: Batch, place: int, record: DetectionRecord | ClassificationRecord, name: str
) -> Tile:
    pixels = np.clip(np.rint(batch.pixels[place].numpy()), 0, 255).astype(np.uint8)
    title, size = "as training sees it", sides((pixels.shape[0], pixels.shape[1]))
    if isinstance(record, ClassificationRecord):
        return plain_tile(pixels, title, f"{name}, {size}")
    kept = batch.classes[place].numpy() >= 0
    return Tile(
        pixels=pixels,
        boxes=batch.boxes[place].numpy()[kept],
        classes=batch.classes[place].numpy()[kept],
        ignored=batch.crowd[place].numpy()[kept],
        title=title,
        line=f"{size}, {kept.sum()} boxes",
        masks=masks_in(batch.labels[place].numpy()),
        is_copy=True,
    )
