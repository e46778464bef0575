"""`python -m export.benchmarks.data`: how long data sets take to open, and how much memory.

Each part makes its own data set, measures in fresh processes in turn, and gives rows. A new part is a
function in `PARTS`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from effkeras.support import results
from effkeras.support.console import run_command, table, track
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.options import above_zero, parser

IMAGES, ANNOTATIONS, CLASSES = 118_000, 860_000, 80  # as in COCO's train2017
SPLIT = "train2017"
_MB = 1e6
_POLYGONS = 997  # different ones; their number is prime, so that they meet all boxes and classes

# What each process does: imports, then the work that is timed. It prints seconds, and peak memory in bytes.
_PROCESS = """
import json, resource, sys, time
{imports}
folder = sys.argv[1]
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit]))
"""
_OPEN = "open_data(folder, {split!r}, masks={masks})"
WAYS = {
    "effkeras": ("from effkeras.data.splits import open_data", _OPEN.format(split=SPLIT, masks=False)),
    "effkeras, masks": ("from effkeras.data.splits import open_data", _OPEN.format(split=SPLIT, masks=True)),
    "pycocotools": (
        "from pycocotools.coco import COCO",
        f'COCO(folder + "/annotations/instances_{SPLIT}.json")',
    ),
}


@dataclass(slots=True)
class Opening:
    """Seconds and peak memory in MB of one way to open a data set, one value for each repeat."""

    way: str
    seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def to_row(self, images: int, annotations: int) -> results.Row:
        """The measurement as a plain record of kind "open-coco"."""
        return {
            "kind": "open-coco",
            "way": self.way,
            "images": images,
            "annotations": annotations,
            "seconds": [round(value, 2) for value in self.seconds],
            "peak_mb": [round(value) for value in self.peaks],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def write_coco_folder(folder: Path, images: int = IMAGES, annotations: int = ANNOTATIONS) -> None:
    """Writes a data set in the layout of COCO's downloads; its image files are empty.

    Each annotation has a polygon of 6 to 40 points, so that the file is as large as COCO's.
    """
    (folder / "annotations").mkdir(parents=True)
    (folder / SPLIT).mkdir()
    for number in track(range(images), "writing files", total=images):
        (folder / SPLIT / f"{number:012d}.jpg").touch()
    rng = random.Random(0)
    with (folder / "annotations" / f"instances_{SPLIT}.json").open("w") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        file.writelines(_separated(_image(number) for number in range(images)))
        file.write('], "annotations": [')
        file.writelines(_separated(_annotations(rng, images, annotations)))
        categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
        file.write(f'], "categories": {json.dumps(categories)}}}\n')


def open_coco(repeats: int) -> list[results.Row]:
    """Opens a generated data set of COCO's size: with boxes, with masks too, and by pycocotools."""
    openings = [Opening(way) for way in WAYS]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "coco")
        write_coco_folder(folder)
        for opening in track(openings * repeats, "opening", total=len(openings) * repeats):
            seconds, peak = _measured(*WAYS[opening.way], folder)
            opening.seconds.append(seconds)
            opening.peaks.append(peak / _MB)
    title = f"COCO file, {IMAGES:,} images, {ANNOTATIONS:,} annotations"
    table(title, ["read by", "s", "peak MB"], map(_cells, openings))
    return [opening.to_row(IMAGES, ANNOTATIONS) for opening in openings]


PARTS: dict[str, Callable[[int], list[results.Row]]] = {"coco": open_coco}


def _image(number: int) -> str:
    name = f"{number:012d}.jpg"
    return json.dumps(
        {
            "license": 3,
            "file_name": name,
            "coco_url": f"http://images.cocodataset.org/{SPLIT}/{name}",
            "height": 480,
            "width": 640,
            "date_captured": "2013-11-14 11:18:45",
            "id": number,
        }
    )


def _annotations(rng: random.Random, images: int, count: int) -> Iterator[str]:
    polygons = [_polygon(rng) for _ in range(_POLYGONS)]
    for number in range(1, count + 1):
        left, top = round(rng.uniform(0, 500), 2), round(rng.uniform(0, 400), 2)
        width, height = round(rng.uniform(5, 120), 2), round(rng.uniform(5, 75), 2)
        yield (
            f'{{"segmentation": [{polygons[number % _POLYGONS]}], "area": {0.6 * width * height:.4f}, '
            f'"iscrowd": 0, "image_id": {rng.randrange(images)}, "bbox": [{left}, {top}, {width}, {height}], '
            f'"category_id": {rng.randint(1, CLASSES)}, "id": {number}}}'
        )


def _polygon(rng: random.Random) -> str:
    return json.dumps([round(rng.uniform(0, 480), 2) for _ in range(2 * rng.randint(6, 40))])


def _separated(texts: Iterator[str]) -> Iterator[str]:
    for position, text in enumerate(texts):
        yield f",{text}" if position else text


def _measured(imports: str, work: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in bytes of a fresh process."""
    code = _PROCESS.format(imports=imports, work=work)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise EffkerasError(f"the process that runs {work} failed: {last[0]}; install effkeras[test]")
    try:
        seconds, peak = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise EffkerasError(
            f"the process that runs {work} printed no figures: {first_line(error)}"
        ) from error
    return float(seconds), float(peak)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    rows = [row for part in chosen.parts or list(PARTS) for row in PARTS[part](chosen.repeats)]
    if chosen.out is not None:
        results.append(chosen.out, [results.stamped(row) for row in rows])


def _cells(one: Opening) -> list[str]:
    seconds = f"{statistics.median(one.seconds):.1f} ({min(one.seconds):.1f}-{max(one.seconds):.1f})"
    return [one.way, seconds, f"{statistics.median(one.peaks):,.0f}"]


def _parser() -> argparse.ArgumentParser:
    options = parser("export data", "Times opening data sets, and measures the memory that it needs.")
    options.add_argument("--parts", nargs="+", choices=list(PARTS), help="default: all")
    options.add_argument("--repeats", type=above_zero, default=3, help="default: 3")
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the rows to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
