"""`python -m export.benchmarks.data`: how long data sets take to open, check and convert.

Each part makes its own data set, measures in fresh processes in turn, and gives rows. A new part is a
function in `PARTS`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effkeras.data.all_splits import read_all
from effkeras.data.records import LabelledData, ReadOptions
from effkeras.data.rewriting import read_to_rewrite, write_whole
from effkeras.support import results
from effkeras.support.console import note, run_command, table, track
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.options import above_zero, parser

IMAGES, ANNOTATIONS, CLASSES = 118_000, 860_000, 80  # as in COCO's train2017
SPLIT = "train2017"
_MB = 1e6
_POLYGONS = 997  # different ones; their number is prime, so that they meet all boxes and classes

# What each process does: imports, then the work that is timed. It prints seconds, those of its CPU alone,
# which other load affects less, and peak memory in bytes.
_PROCESS = """
import json, resource, sys, time
{imports}
folder = sys.argv[1]
start, cpu = time.perf_counter(), time.process_time()
{work}
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit]))
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

_CHECK = (
    "from pathlib import Path\nfrom effkeras.data.checking import check\n"
    "from effkeras.data.records import ReadOptions",
    "check(Path(folder), ReadOptions(skip_bad=True), decode=False)",
)
BCCD = Path("../shared/real/bccd")
CHAIN = ("yolo", "coco", "csv", "tfrecord", "labelme", "voc")


@dataclass(slots=True)
class Opening:
    """Seconds, CPU seconds and peak memory in MB of one way to open a data set, a value for each repeat."""

    way: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def add(self, seconds: float, cpu: float, peak: float) -> None:
        """Adds a repeat; its peak memory is in bytes."""
        self.seconds.append(seconds)
        self.cpu.append(cpu)
        self.peaks.append(peak / _MB)

    def to_row(self, images: int, annotations: int) -> results.Row:
        """The measurement as a plain record of kind "open-coco"."""
        return {
            "kind": "open-coco",
            "way": self.way,
            "images": images,
            "annotations": annotations,
            "seconds": [round(value, 2) for value in self.seconds],
            "cpu_seconds": [round(value, 2) for value in self.cpu],
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
            opening.add(*_measured(*WAYS[opening.way], folder))
    title = f"COCO file, {IMAGES:,} images, {ANNOTATIONS:,} annotations"
    table(title, ["read by", "s", "CPU s", "peak MB"], map(_cells, openings))
    return [opening.to_row(IMAGES, ANNOTATIONS) for opening in openings]


def check_coco(repeats: int) -> list[results.Row]:
    """Checks a generated data set of COCO's size: annotations, names, and the sizes in image headers."""
    checking = Opening("data check --no-decode")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "coco")
        write_coco_folder(folder)
        image = _jpeg(640, 480)
        for path in track(sorted((folder / SPLIT).iterdir()), "writing images", total=IMAGES):
            path.write_bytes(image)
        for _ in track(range(repeats), "checking", total=repeats):
            checking.add(*_measured(*_CHECK, folder))
    title = f"check of {IMAGES:,} images, {ANNOTATIONS:,} annotations"
    table(title, ["by", "s", "CPU s", "peak MB"], [_cells(checking)])
    return [checking.to_row(IMAGES, ANNOTATIONS) | {"kind": "check-coco"}]


def convert_bccd(repeats: int) -> list[results.Row]:
    """Converts BCCD from VOC through all formats and back to VOC, and compares the boxes with the first ones.

    Without BCCD in ../shared/real there are no rows.
    """
    if not BCCD.is_dir():
        note(f"{BCCD} is not on this machine: no conversions")
        return []
    options = ReadOptions(skip_bad=True, masks=True)
    first = read_all(BCCD, options)
    rows: list[results.Row] = [{"kind": "convert-bccd", "to": to, "seconds": []} for to in CHAIN]
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(repeats):
            source = BCCD
            for row in rows:
                target = Path(temporary, f"{repeat}-{row['to']}")
                start = time.perf_counter()
                write_whole(target, read_to_rewrite(source, options), row["to"])
                row["seconds"].append(round(time.perf_counter() - start, 2))
                row["largest_difference"] = round(_largest_difference(first, read_all(target, options)), 4)
                source = target
    shown = [
        [row["to"], f"{statistics.median(row['seconds']):.1f}", f"{row['largest_difference']:g}"]
        for row in rows
    ]
    table("BCCD, each from the one before", ["to", "s", "largest difference, px"], shown)
    return rows


def _largest_difference(first: Sequence[LabelledData], last: Sequence[LabelledData]) -> float:
    """The largest distance of a corner in pixels; infinite where splits, images, classes or boxes differ."""
    ours, theirs = (
        {(data.split, record.path.stem): _boxes(data, record) for data in splits for record in data.records}
        for splits in (first, last)
    )
    if theirs.keys() != ours.keys():
        return math.inf
    largest = 0.0
    for key, (labels, boxes) in ours.items():
        if labels != theirs[key][0]:
            return math.inf
        largest = max(largest, float(np.abs(boxes - theirs[key][1]).max(initial=0)))
    return largest


def _boxes(data: LabelledData, record: Any) -> tuple[list[str], np.ndarray]:
    """The class names and boxes of an image, without crowds."""
    kept = ~record.crowd
    return [data.labels[label] for label in record.classes[kept]], record.boxes[kept]


PARTS: dict[str, Callable[[int], list[results.Row]]] = {
    "coco": open_coco,
    "check": check_coco,
    "bccd": convert_bccd,
}


def _jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (120, 130, 140)).save(stream, "JPEG")
    return stream.getvalue()


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


def _measured(imports: str, work: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in bytes of a fresh process."""
    code = _PROCESS.format(imports=imports, work=work)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise EffkerasError(f"the process that runs {work} failed: {last[0]}; install effkeras[test]")
    try:
        seconds, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise EffkerasError(
            f"the process that runs {work} printed no figures: {first_line(error)}"
        ) from error
    return float(seconds), float(cpu), float(peak)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    rows = [row for part in chosen.parts or list(PARTS) for row in PARTS[part](chosen.repeats)]
    if chosen.out is not None:
        results.append(chosen.out, [results.stamped(row) for row in rows])


def _cells(one: Opening) -> list[str]:
    seconds = f"{statistics.median(one.seconds):.1f} ({min(one.seconds):.1f}-{max(one.seconds):.1f})"
    return [one.way, seconds, f"{statistics.median(one.cpu):.1f}", f"{statistics.median(one.peaks):,.0f}"]


def _parser() -> argparse.ArgumentParser:
    options = parser("export data", "Times opening data sets, and measures the memory that it needs.")
    options.add_argument("--parts", nargs="+", choices=list(PARTS), help="default: all")
    options.add_argument("--repeats", type=above_zero, default=3, help="default: 3")
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the rows to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
