"""`python -m export.benchmarks.pipeline`: CPU time of the input pipeline, and what a second core gives.

Photographs of 480 x 640 pixels with boxes are drawn, saved as JPEG files, and made into batches for
EfficientDet-Lite0 as in a training. Processes with one and with two cores take turns. The projection to more
cores takes all reading of images that are held as serial (Amdahl's law), though it is so only in part.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from effkeras.support import results
from effkeras.support.console import run_command, table, track
from effkeras.support.errors import EffkerasError
from effkeras.support.options import above_zero, parser

if TYPE_CHECKING:
    from effkeras.data.records import DetectionData
    from effkeras.definitions.definition import ModelSpec

_MODEL, _BATCH, _IMAGES, _FILE_SIZE = "efficientdet-lite0", 8, 64, (480, 640)
_FEW = 12  # boxes of most images, at most
_PROJECTED = 16  # cores
_REPEATS = 3  # timings of a case in a process


@dataclass(frozen=True, slots=True)
class Case:
    """A pipeline: the input's side, a preset of augmentations, and boxes an image (0: 1 to 12).

    `is_held` says that decoded images are held in memory.
    """

    side: int
    preset: str = "none"
    boxes: int = 0
    is_held: bool = True

    @property
    def name(self) -> str:
        """The case in words."""
        boxes = f", {self.boxes} boxes" if self.boxes else ""
        place = "" if self.is_held else ", decoded each time"
        return f"{self.side} px, {'plain' if self.preset == 'none' else self.preset}{boxes}{place}"


CASES = (
    *(Case(320, preset) for preset in ("none", "light", "medium")),
    Case(320, boxes=93),
    *(Case(512, preset) for preset in ("none", "light", "medium")),
    Case(512, boxes=93),
    Case(320, "light", is_held=False),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One case in one process: CPU ms and seconds an image, CPU ms of reading, MiB of growth."""

    cpu_ms: float
    seconds: float
    reading_ms: float
    growth: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All turns of a case with one core and with two."""

    case: Case
    one: tuple[Turn, ...]
    two: tuple[Turn, ...]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image on one core, the median."""
        return statistics.median(turn.cpu_ms for turn in self.one)

    @property
    def speedup(self) -> float:
        """Images a second of two cores beside one, of the fastest turns: other load only slows."""
        alone, both = (min(turn.seconds for turn in turns) for turns in (self.one, self.two))
        return alone / both

    @property
    def projected(self) -> float:
        """Images a second on 16 cores."""
        serial = min(statistics.median(turn.reading_ms for turn in self.one), self.cpu_ms)
        return 1000 / (serial + (self.cpu_ms - serial) / _PROJECTED)

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "input pipeline"."""
        return {
            "kind": "input pipeline",
            "model": _MODEL,
            "case": self.case.name,
            "batch": _BATCH,
            "cpu_ms_per_image": [round(turn.cpu_ms, 2) for turn in self.one],
            "reading_cpu_ms": [round(turn.reading_ms, 3) for turn in self.one],
            "images_per_second_1_core": [round(1 / turn.seconds) for turn in self.one],
            "images_per_second_2_cores": [round(1 / turn.seconds) for turn in self.two],
            "speedup_2_cores": round(self.speedup, 2),
            "projected_images_per_second_16_cores": round(self.projected) if self.case.is_held else None,
            "growth_mib": [round(turn.growth, 1) for turn in (*self.one, *self.two)],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def draw_set(folder: Path, boxes: int, count: int = _IMAGES) -> DetectionData:
    """Photographs, as JPEG files in the folder, with `boxes` boxes each, or 1 to 12 with 0."""
    from effkeras.data.records import Category, DetectionData, DetectionRecord

    random, records = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"{number}.jpg"
        if not path.is_file():
            shape = (_FILE_SIZE[0] // 8, _FILE_SIZE[1] // 8, 3)
            coarse = np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(coarse).resize(_FILE_SIZE[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
        own = boxes or int(random.integers(1, _FEW + 1))
        low = random.uniform(0, 0.8, (own, 2)) * _FILE_SIZE
        sides = random.uniform(0.03, 0.2, (own, 2)) * _FILE_SIZE
        corners = np.concatenate([low, low + sides], axis=1).astype(np.float32)
        classes, crowd = np.zeros(own, np.int64), np.zeros(own, bool)
        areas = np.prod(sides, axis=1).astype(np.float32)
        records.append(DetectionRecord(path, number, _FILE_SIZE, corners, classes, crowd, areas))
    return DetectionData(folder, "train", (Category(1, "thing"),), tuple(records))


def measure(case: Case, folder: Path, images: int) -> list[Turn]:
    """Takes so many images of a case in this process a few times, after some that are not timed."""
    from effkeras.data.augmentations import PRESET, AugmentSpec
    from effkeras.data.store import ImageStore
    from effkeras.training.pipeline import BatchSpec, training_batches

    spec = _spec(case.side)
    store = ImageStore(draw_set(folder, case.boxes), spec.input, memory=None if case.is_held else 0)
    augment = None if case.preset == "none" else AugmentSpec.from_table({PRESET: case.preset}, "")
    steps = -(-images // _BATCH)
    spec_of_batches = BatchSpec(_BATCH, 0, augment)
    batches = iter(training_batches(store, spec, spec_of_batches, range((_REPEATS + 1) * steps)))
    reading = _reading_ms(store) if case.is_held else 0.0
    for _ in range(steps):
        next(batches)
    return [_timed(batches, steps, reading) for _ in range(_REPEATS)]


def _timed(batches: Iterator[Any], steps: int, reading: float) -> Turn:
    memory, cpu, wall = _resident(), time.process_time(), time.perf_counter()
    for _ in range(steps):
        next(batches)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = steps * _BATCH
    return Turn(1000 * cpu / count, wall / count, reading, _resident() - memory)


def _spec(side: int) -> ModelSpec:
    import effkeras

    spec = effkeras.spec(_MODEL)
    return spec.replace(input=dataclasses.replace(spec.input, size=(side, side)))


def _reading_ms(store: object) -> float:
    """CPU ms an image for what Python does of it: the call from TensorFlow and the look-up."""
    import tensorflow as tf

    def load(index: np.ndarray) -> np.ndarray:
        return store[int(index) % _IMAGES].pixels  # type: ignore[index, no-any-return]

    read = tf.autograph.experimental.do_not_convert(lambda index: tf.numpy_function(load, [index], tf.uint8))
    start, count = time.process_time(), 4 * _IMAGES
    for _ in tf.data.Dataset.range(count).map(read).batch(_BATCH):
        pass
    return 1000 * (time.process_time() - start) / count


def _resident() -> float:
    """MiB of this process in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _turns(cores: int, folder: Path, images: int) -> list[list[Turn]]:
    """All cases in a process of their own, since TensorFlow counts cores once."""
    command = [sys.executable, "-m", "export.benchmarks.pipeline", "--worker", str(cores)]
    command += ["--folder", str(folder), "--images", str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EffkerasError(f"the process for {cores} cores failed: {done.stderr.strip()[-300:]}")
    return [[Turn(*one) for one in case] for case in json.loads(done.stdout.splitlines()[-1])]


def _work(cores: int, folder: Path, images: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    made = [[dataclasses.astuple(turn) for turn in measure(case, folder, images)] for case in CASES]
    print(json.dumps(made))


def _measured(rounds: int, images: int) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_set(folder, 1)
        turns = [[_turns(cores, folder, images) for cores in (1, 2)] for _ in track(range(rounds), "batches")]
    for number, case in enumerate(CASES):
        one, two = (tuple(one for turn in turns for one in turn[cores][number]) for cores in (0, 1))
        yield Measured(case, one, two)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    if chosen.worker:
        _work(chosen.worker, chosen.folder, chosen.images)
        return
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise EffkerasError("this measures one core beside two; run it on Linux with two cores or more")
    measured = list(_measured(chosen.rounds, chosen.images))
    rows = [
        [
            one.case.name,
            f"{one.cpu_ms:.1f} ({min(t.cpu_ms for t in one.one):.1f}-{max(t.cpu_ms for t in one.one):.1f})",
            f"{1 / min(turn.seconds for turn in one.two):.0f}",
            f"{one.speedup:.2f}",
            f"{one.projected:,.0f}" if one.case.is_held else "",
        ]
        for one in measured
    ]
    heads = ["batches", "CPU ms an image", "images/s, 2 cores", "of 1 core", f"{_PROJECTED} cores"]
    table(f"input pipeline of {_MODEL}, batch {_BATCH}: median (range)", heads, rows)
    if chosen.out:
        results.append(chosen.out, [results.stamped(one.to_row()) for one in measured])


def _parser() -> argparse.ArgumentParser:
    options = parser("pipeline", "Measures the CPU time of batches, and how it scales with cores.")
    options.prog = "python -m export.benchmarks.pipeline"
    options.add_argument("--rounds", type=above_zero, default=2, help="turns of each process (default: 2)")
    options.add_argument(
        "--images", type=above_zero, default=240, help="timed images of each case (default: 240)"
    )
    options.add_argument("--out", type=Path, metavar="JSONL", help="the file to append the measurements to")
    options.add_argument("--worker", type=above_zero, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
