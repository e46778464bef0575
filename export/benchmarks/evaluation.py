"""`python -m export.benchmarks.evaluation`: what evaluation and calibration cost beside the network itself.

Each part makes its own images and models, with random weights, and measures pairs in turn: ours and what it
is compared with. A ratio is that of the medians. A new part is a function in `PARTS`.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from effkeras.data.records import (
    Category,
    ClassificationData,
    ClassificationRecord,
    DetectionData,
    DetectionRecord,
    LabelledData,
)
from effkeras.detection.nms import Detections
from effkeras.support import results
from effkeras.support.console import note, quiet, run_command, table
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, parser

if TYPE_CHECKING:
    import keras

    from effkeras.litert.runner import LiteRTModel

DETECTOR, CLASSIFIER = "efficientdet-lite0", "efficientnet-lite0"
RECIPES = ("float32", "int8")
IMAGES = 64
SIDES = (480, 640)  # of the images
CALIBRATED = 32  # images
EXPORTED = 500  # images, of which half calibrate and half measure
COCO_IMAGES, COCO_BOXES, COCO_CLASSES, COCO_TRUTHS = 5000, 100, 80, 7
_SPREAD = 1.5  # standard deviation of a detector's logits: scores as different as those of a trained one

Timed = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds of our way and of what it is compared with, a value for each repeat; `items` is the work."""

    what: str
    against: str
    items: int
    ours_s: tuple[float, ...]
    theirs_s: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Our median divided by theirs; None without something to compare with."""
        return statistics.median(self.ours_s) / statistics.median(self.theirs_s) if self.theirs_s else None

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "evaluation speed".

        `share_of_rate` is our images a second as a share of theirs.
        """
        ratio = self.ratio
        shares = {} if ratio is None else {"ratio": round(ratio, 3), "share_of_rate": round(1 / ratio, 3)}
        return {
            "kind": "evaluation speed",
            "what": self.what,
            "against": self.against,
            "items": self.items,
            "ours_s": [round(value, 5) for value in self.ours_s],
            "theirs_s": [round(value, 5) for value in self.theirs_s],
            **shares,
        }

    def cells(self) -> list[str]:
        """A row of the table."""
        ratio, each = self.ratio, 1e3 / self.items
        ours, theirs = (
            f"{each * statistics.median(values):.3f} ({each * min(values):.3f}-{each * max(values):.3f})"
            if values
            else "-"
            for values in (self.ours_s, self.theirs_s)
        )
        return [self.what, ours, self.against, theirs, "-" if ratio is None else f"{ratio:.2f}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def timed(
    what: str, against: str, items: int, ways: Sequence[Timed], repeats: int, *, warm_up: bool = True
) -> Pair:
    """Times one way, or two in turn, if `warm_up` after one run of each that is not timed."""
    for way in ways if warm_up else ():
        way()
    gc.collect()
    turns = [[_seconds(way) for way in ways] for _ in range(repeats)]
    ours, *theirs = zip(*turns, strict=True)
    return Pair(what, against, items, ours, theirs[0] if theirs else ())


def eval_detector(repeats: int) -> Iterator[Pair]:
    """`eval` of a detector's .tflite, against its interpreter alone on the same inputs."""
    with _folder() as folder:
        data = detection_set(folder, IMAGES)
        yield from _evals(_detector(), data, repeats)


def eval_classifier(repeats: int) -> Iterator[Pair]:
    """`eval` of a classifier's .tflite, against its interpreter alone on the same inputs."""
    with _folder() as folder:
        yield from _evals(_built(CLASSIFIER), classification_set(folder, IMAGES), repeats)


def calibrate(repeats: int) -> Iterator[Pair]:
    """The ranges of all activations, reading of images included, against the float network alone."""
    from quantize.formats import find
    from quantize.post_training.options import PtqOptions
    from quantize.post_training.quantization import float_parts, inputs_of, ranges_of

    options = PtqOptions(find("int8"), samples=CALIBRATED)
    with _folder() as folder:
        sets: dict[str, LabelledData] = {
            CLASSIFIER: classification_set(folder / "classes", CALIBRATED),
            DETECTOR: detection_set(folder / "boxes", CALIBRATED),
        }
        for name, data in sets.items():
            model = _built(name) if name == CLASSIFIER else _detector()
            with quiet():
                parts = float_parts(model, options)
            loop = _loop(_opened(parts.flatbuffer, model), _inputs(model, data))

            def measure(parts: Any = parts, data: LabelledData = data) -> object:
                return ranges_of(parts, options, inputs_of(parts, options, data))

            yield timed(f"calibration, {name}", "the interpreter", CALIBRATED, [measure, loop], repeats)


def coco(repeats: int) -> Iterator[Pair]:
    """COCO's metrics of many detections, against faster-coco-eval on what it takes."""
    from faster_coco_eval import COCO, COCOeval_faster

    from effkeras.detection.coco_metrics import coco_metrics

    data, found = detections(COCO_IMAGES)
    truth, results_ = coco_truth(data), coco_results(found)

    def theirs() -> object:
        known = COCO(truth)
        # Copies, because it adds to what it is given.
        judge = COCOeval_faster(known, known.loadRes([dict(one) for one in results_]), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return judge

    ways = [lambda: coco_metrics(data, found), theirs]
    yield timed("COCO's metrics", "faster-coco-eval", COCO_IMAGES, ways, repeats)


def suppress(repeats: int) -> Iterator[Pair]:
    """Non-maximum suppression, and matching with the true boxes."""
    from effkeras.detection.average_precision import Matches
    from effkeras.detection.nms import Decoder

    model = _detector()
    with _folder() as folder:
        pixels = _inputs(model, detection_set(folder, 8))
    outputs = {name: np.asarray(value) for name, value in model(pixels, training=False).items()}
    decoder = Decoder.of(_spec(model))

    def decode() -> object:
        rows = zip(outputs["class_logits"], outputs["box_deltas"], strict=True)
        return [decoder(*row) for row in rows]

    yield timed(f"NMS, {DETECTOR}", "", len(pixels), [decode], repeats)
    data, found = detections(100)
    yield timed("matching with true boxes", "", 100, [lambda: Matches.of(data, found)], repeats)


def predict_one(repeats: int) -> Iterator[Pair]:
    """One image through a new Keras model, against a traced call as for many images."""
    from effkeras.inference.predictor import KerasPredictor

    model = _built(CLASSIFIER)
    pixels = np.zeros((1, *model.inputs[0].shape[1:]), np.float32)

    def once() -> object:
        return KerasPredictor.of(model).once(pixels)

    def traced() -> object:
        return KerasPredictor.of(model)(pixels)

    yield timed(f"one image, {CLASSIFIER}", "a traced call", 1, [once, traced], repeats)


PARTS: dict[str, Callable[[int], Iterator[Pair]]] = {
    "detector": eval_detector,
    "classifier": eval_classifier,
    "calibrate": calibrate,
    "coco": coco,
    "suppress": suppress,
    "predict": predict_one,
}


def export_before(before: Path, repeats: int) -> Iterator[Pair]:
    """`export tflite --recipe int8` of a classifier, against the same command of an earlier checkout."""
    with _folder() as folder:
        with quiet():
            _built(CLASSIFIER).save(folder / "model.keras")
        for split in ("train", "val"):
            classification_set(folder / "data" / split, EXPORTED // 2)
        ways = [_export(root, folder) for root in (Path.cwd(), before)]
        yield timed(f"export int8, {CLASSIFIER}", "before", EXPORTED, ways, repeats, warm_up=False)


def _export(root: Path, folder: Path) -> Timed:
    words = [
        "export.tflite",
        "model.keras",
        "--data",
        "data",
        "--recipe",
        "int8",
        "--force",
        "--out",
        "a.tflite",
    ]

    def run() -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no output"]
            raise EffkerasError(f"export tflite of {root} failed: {last[0]}; give a checkout that runs here")

    return run


def detection_set(folder: Path, count: int) -> DetectionData:
    """Images with a box of each of three classes in a folder, as one split."""
    boxes = np.array([[20, 20, 120, 180], [200, 300, 400, 500], [100, 400, 160, 460]], np.float32)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    records = tuple(
        DetectionRecord(path, number, SIDES, boxes, np.arange(3), np.zeros(3, bool), areas)
        for number, path in enumerate(_images(folder, count), start=1)
    )
    categories = tuple(Category(number, f"class {number}") for number in range(3))
    return DetectionData(folder, "val", categories, records)


def classification_set(folder: Path, count: int) -> ClassificationData:
    """Images of two classes in class folders, as one split."""
    names = ("class 0", "class 1")
    paths = [path for name in names for path in _images(folder / name, count // 2)]
    records = tuple(ClassificationRecord(path, int(path.parent.name[-1])) for path in paths)
    return ClassificationData(folder, "val", names, records)


def detections(images: int) -> tuple[DetectionData, dict[int, Detections]]:
    """True boxes and detections like those of a detector on COCO's val2017."""
    draw, records, found = np.random.default_rng(0), [], {}
    for number in range(1, images + 1):
        low, sides = draw.uniform(0, 500, (COCO_TRUTHS, 2)), draw.uniform(5, 200, (COCO_TRUTHS, 2))
        boxes = np.concatenate([low, low + sides], axis=1).astype(np.float32)
        classes, crowd = draw.integers(0, COCO_CLASSES, COCO_TRUTHS), draw.random(COCO_TRUTHS) < 0.02
        area = 0.7 * sides.prod(axis=1).astype(np.float32)
        records.append(
            DetectionRecord(Path(f"{number}.jpg"), number, (700, 700), boxes, classes, crowd, area)
        )
        near = draw.integers(0, COCO_TRUTHS, COCO_BOXES)
        moved = boxes[near] + draw.normal(0, 8, (COCO_BOXES, 4)).astype(np.float32)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        guesses = np.where(
            draw.random(COCO_BOXES) < 0.5, classes[near], draw.integers(0, COCO_CLASSES, COCO_BOXES)
        )
        scores = np.sort(draw.random(COCO_BOXES).astype(np.float32))[::-1]
        found[number] = Detections(moved, scores, guesses)
    categories = tuple(Category(number, str(number)) for number in range(COCO_CLASSES))
    return DetectionData(Path("drawn"), "val", categories, tuple(records)), found


def coco_truth(data: DetectionData) -> dict[str, Any]:
    """True boxes as faster-coco-eval takes them."""
    rows = [
        (record.image_id, *row)
        for record in data.records
        for row in zip(record.boxes, record.classes, record.areas, record.crowd, strict=True)
    ]
    return {
        "images": [{"id": one.image_id, "height": one.size[0], "width": one.size[1]} for one in data.records],
        "categories": [{"id": number, "name": one.name} for number, one in enumerate(data.categories)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": int(label),
                "bbox": _xywh(box),
                "area": float(area),
                "iscrowd": int(crowd),
            }
            for number, (image, box, label, area, crowd) in enumerate(rows, start=1)
        ],
    }


def coco_results(found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """Detections as faster-coco-eval takes them."""
    return [
        {"image_id": image, "category_id": int(label), "bbox": _xywh(box), "score": float(score)}
        for image, one in found.items()
        for box, label, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]


def _xywh(box: np.ndarray) -> list[float]:
    ymin, xmin, ymax, xmax = (float(value) for value in box)
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _evals(model: keras.Model, data: LabelledData, repeats: int) -> Iterator[Pair]:
    from effkeras.inference.evaluate import evaluate_in_detail
    from export.benchmarks.random_models import artifacts_on_random_images

    name = _spec(model).name
    with quiet():
        artifacts = artifacts_on_random_images(model, RECIPES)
    for recipe, artifact in artifacts.items():
        runner = _opened(artifact, model)

        def ours(runner: LiteRTModel = runner) -> object:
            return evaluate_in_detail(runner, data)

        ways = [ours, _loop(runner, _inputs(model, data))]
        yield timed(f"eval, {name}, {recipe}", "the interpreter", len(data.records), ways, repeats)


def _loop(runner: LiteRTModel, inputs: np.ndarray) -> Timed:
    """The bare loop: each input through the interpreter with two threads, and nothing else."""
    interpreter = runner.interpreter
    (entry,) = interpreter.get_input_details()

    def loop() -> None:
        for image in inputs:
            interpreter.set_tensor(entry["index"], image[None])
            interpreter.invoke()

    return loop


def _opened(flatbuffer: bytes, model: keras.Model) -> LiteRTModel:
    from effkeras.litert.runner import LiteRTModel, make_interpreter

    return LiteRTModel(_spec(model), make_interpreter(flatbuffer), flatbuffer)


def _inputs(model: keras.Model, data: LabelledData) -> np.ndarray:
    from effkeras.data.images import read_image
    from effkeras.data.preprocess import network_input

    return np.stack([network_input(read_image(one.path), _spec(model).input) for one in data.records])


def _spec(model: keras.Model) -> Any:
    from effkeras.layers.normalize import spec_of

    return spec_of(model)


def _built(name: str) -> keras.Model:
    import effkeras
    from effkeras.building.models import build_spec
    from effkeras.definitions.changes import with_classes

    with quiet():
        spec = with_classes(effkeras.spec(name), 3 if name == DETECTOR else 2)
        labels = tuple(f"class {number}" for number in range(spec.classes))
        return build_spec(replace(spec, labels=labels, category_ids=()))


def _detector() -> keras.Model:
    """A detector whose scores differ from anchor to anchor, as those of trained ones do."""
    from export.benchmarks.random_models import measure_statistics, random_images

    model = _built(DETECTOR)
    measure_statistics(model)
    last = model.get_layer("class_predict")
    (pixels,) = random_images(model.inputs[0].shape[1:], 1)
    found = np.asarray(model(pixels, training=False)["class_logits"]).std()
    kernel = last.pointwise_kernel
    kernel.assign(kernel * _SPREAD / found)
    return model


def _images(folder: Path, count: int) -> list[Path]:
    """Photographs, as far as their size in bytes goes: smooth colours with some noise."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize(SIDES[::-1], Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(smooth + draw.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:04d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _seconds(way: Timed) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    measured: list[Pair] = []
    for part in chosen.parts or list(PARTS):
        note(f"measuring {part}")
        measured += PARTS[part](chosen.repeats)
    if chosen.before is not None:
        note("measuring export")
        measured += export_before(chosen.before.absolute(), chosen.repeats)
    columns = ["what", "ours, ms an image: median (range)", "against", "theirs", "ratio"]
    table("evaluation and calibration", columns, [one.cells() for one in measured])
    if chosen.out is not None:
        results.append(chosen.out, [results.stamped(one.to_row()) for one in measured])


def _parser() -> argparse.ArgumentParser:
    options = parser("evaluation", "Times evaluation and calibration beside the network itself.")
    options.prog = "python -m export.benchmarks.evaluation"
    options.add_argument("--parts", nargs="+", choices=list(PARTS), help="default: all")
    options.add_argument("--repeats", type=above_zero, default=5, help="default: 5")
    options.add_argument(
        "--before",
        type=Path,
        metavar="CHECKOUT",
        help="also time an export beside that of an earlier checkout",
    )
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the rows to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
