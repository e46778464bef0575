"""`make report-zoo`: every model of the zoo as float32 and int8 files, and a page that compares them.

Each model is built at its own size and converted; both files are compared with the Keras model, sized and
timed. Weights are random, with the statistics of batch norms measured, so nothing here is an accuracy: the
page shows the published one beside what is measured, and says which is which. Each model runs in its own
process, the smallest first, and a second run goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.support import results
from effkeras.support.console import note, quiet, run_command, track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import write_bytes, write_text
from effkeras.support.options import above_zero, parser
from export.benchmarks.zoo_page import KIND, chart, newest, page

if TYPE_CHECKING:
    import numpy as np

    from effkeras.definitions.definition import InputSpec
    from effkeras.support.measurements import Latency
    from export.benchmarks.partition import Built
    from quantize.post_training.artifact import FloatParts
    from quantize.post_training.options import PtqOptions
    from quantize.post_training.ranges import Ranges

HOURS = 6.0
GIGABYTES = 20
CALIBRATION = 16  # images
RECIPES = ("float32", "int8")
FAILED = 1
PAGE = Path("docs/zoo.md")
_COMPARED = 2  # images on which a file is compared with its model
_FEWEST, _MOST, _SECONDS = 3, 50, 10.0  # timed runs of a file, and what they take in all
_WAIT = 0.5  # seconds between two looks at a process

Images = Callable[["InputSpec"], "list[np.ndarray]"]


@dataclass(frozen=True, slots=True)
class ZooOptions:
    """What is measured and kept: models, the images that calibrate, the limits, the rows, and the page."""

    only: tuple[str, ...] = ()
    data: Path | None = None
    hours: float = HOURS
    gigabytes: float = GIGABYTES
    again: bool = False
    out: Path = Path("models/results.jsonl")
    page: Path = PAGE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 1 when a model could not be converted."""
    return run_command(lambda: _run(argv))


def models() -> list[str]:
    """The names of all models in the zoo, those with the fewest multiply-adds first."""
    from effkeras.definitions import zoo
    from effkeras.graph.counting import cost

    with quiet():
        return sorted(zoo.list_models(), key=lambda name: cost(zoo.spec(name))[1])


def row_of(name: str, data: Path | None = None) -> results.Row:
    """Builds, converts, compares and times a model: a plain record of kind "zoo".

    Args:
        name: a name of the zoo, or a TOML file.
        data: a folder of images that calibrate; noise without one.

    Raises:
        EffkerasError: there is no such model, or the folder holds no images.
    """
    with quiet():
        from effkeras.graph.counting import cost
        from effkeras.layers.normalize import spec_of
        from export.benchmarks.partition import built
    images = _noise if data is None else _images_of(data)
    one = built(name)
    spec = spec_of(one.model)
    parameters, macs = cost(spec)
    files = _files(one, images)
    checked = {recipe: _checked(content, one, images, recipe) for recipe, content in files.items()}
    load = os.getloadavg()[0]
    times = _times(files)
    return {
        "kind": KIND,
        "model": spec.name,
        "input_size": list(spec.input.size),
        "parameters": parameters,
        "macs": macs,
        "weights": "random",
        "calibration": f"{CALIBRATION} images of " + ("noise" if data is None else data.name),
        **{
            recipe: {"bytes": len(files[recipe]), **times[recipe].to_row(), **checked[recipe]}
            for recipe in RECIPES
        },
        "load": round(load, 1),
        "edgetpu": _edge_tpu(files["int8"]),
    }


def _noise(spec: InputSpec) -> list[np.ndarray]:
    from export.benchmarks.random_models import random_images

    return random_images((*spec.size, 3), CALIBRATION)


def _images_of(folder: Path) -> Images:
    """Images from all over a folder, as the network takes them."""
    from effkeras.data.images import images_below, read_image
    from effkeras.data.preprocess import network_input

    found = images_below(folder).images
    if not found:
        raise EffkerasError(f"{folder} holds no images; give a folder of photographs, or leave --data out")
    chosen = found[:: max(1, len(found) // CALIBRATION)][:CALIBRATION]
    return lambda spec: [network_input(read_image(path), spec)[None] for path in chosen]


def _files(one: Built, images: Images) -> dict[str, bytes]:
    """Both files. Large networks are calibrated at a smaller size, which takes less memory."""
    from quantize.formats import find
    from quantize.post_training.options import PtqOptions
    from quantize.post_training.quantization import float_parts, quantize_pixels

    plain, eight = PtqOptions(find("float32")), PtqOptions(find("int8"), "int8")
    parts = float_parts(one.model, eight)
    calibrated = parts if one.smaller is None else float_parts(one.smaller, eight)
    int8 = quantize_pixels(parts, eight, (), _ranges(calibrated, eight, images)).flatbuffer
    return {"float32": quantize_pixels(float_parts(one.model, plain), plain, ()).flatbuffer, "int8": int8}


def _ranges(parts: FloatParts, options: PtqOptions, images: Images) -> Ranges:
    from quantize.post_training.quantization import ranges_of

    assert parts.spec is not None  # its input is int8, which takes a definition
    return ranges_of(parts, options, images(parts.spec.input))


def _checked(content: bytes, one: Built, images: Images, recipe: str) -> dict[str, Any]:
    """The largest difference from the Keras model, relative to its outputs' spread, and what is wrong."""
    import numpy as np

    from effkeras.layers.normalize import spec_of
    from quantize.checks import Reference, check_file

    shown = np.concatenate(images(spec_of(one.model).input)[:_COMPARED])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{recipe}.tflite"
        file.write_bytes(content)
        found = check_file(file, Reference(one.model, shown, recipe))
    error = max((float(one.error) for one in found.agreements), default=0.0)
    return {"error": round(error, 6), "problems": list(found.problems)}


def _times(files: Mapping[str, bytes]) -> dict[str, Latency]:
    """Latencies on XNNPACK, one thread: the two files take turns, large ones fewer."""
    from effkeras.litert.latency import InterpreterOptions, Plan, measure_all

    one_thread = InterpreterOptions(xnnpack=True, threads=1)
    jobs = [(files[recipe], one_thread) for recipe in RECIPES]
    first = measure_all(jobs, Plan(1, 0), "first run")
    runs = int(1000 * _SECONDS / max(latency.min_ms for latency in first))
    runs = min(_MOST, max(_FEWEST, runs))
    return dict(zip(RECIPES, measure_all(jobs, Plan(runs, max(1, runs // 5))), strict=True))


def _edge_tpu(flatbuffer: bytes) -> dict[str, Any]:
    """The pre-flight's verdict on the network without NMS."""
    from effkeras.litert.edge_tpu import for_edge_tpu
    from export.preflight import check_for

    found = check_for(for_edge_tpu(flatbuffer), "edgetpu").to_row()
    del found["ops"]
    return found


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    if chosen.row is not None:
        print(json.dumps(row_of(chosen.row, chosen.data)))
        return 0
    given = (chosen.data, chosen.hours, chosen.gigabytes, chosen.again, chosen.out, chosen.page)
    options = ZooOptions(tuple(chosen.only or ()), *given)
    failures = [] if options.hours <= 0 else _measure(options)
    write_pages(options)
    for failure in failures:
        print(f"failed: {failure}")
    return FAILED if failures else 0


def write_pages(options: ZooOptions) -> None:
    """Writes the page and its chart from all rows that there are."""
    rows = results.read(options.out)
    write_text(options.page, page(rows))
    write_bytes(options.page.with_suffix(".png"), chart(rows))
    print(f"{options.page}: {len(newest(rows))} models")


def _measure(options: ZooOptions) -> list[str]:
    """Measures what has no row yet, until the time is over; a line for each failure."""
    end = time.monotonic() + 3600 * options.hours
    known = (
        set() if options.again else {row["model"] for row in results.read(options.out) if row["kind"] == KIND}
    )
    names = [name for name in options.only or models() if name not in known]
    failures = []
    for name in track(names, "models"):
        try:
            row = _measured(name, options, end)
        except _TimeError:
            note(f"the time is over; the same command goes on with {name}")
            break
        except _MemoryError as error:
            note(f"{name} is left out: {error}")
            continue
        except EffkerasError as error:
            failures.append(f"{name}: {error}")
            continue
        results.append(options.out, [results.stamped(row)])
    return failures


class _TimeError(EffkerasError):
    """The time for all models is over."""


class _MemoryError(EffkerasError):
    """A model takes more memory than it may."""


def _measured(name: str, options: ZooOptions, end: float) -> results.Row:
    """The row of a model, measured in a process of its own, which is ended past the limits.

    `end` is a time of `time.monotonic`. Raises EffkerasError when it fails.
    """
    command = [sys.executable, "-m", "export.benchmarks.zoo", "--row", name]
    command += [] if options.data is None else ["--data", str(options.data)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        try:
            while process.poll() is None:
                if _memory(process.pid) > options.gigabytes * 1e9:
                    raise _MemoryError(f"it takes more than {options.gigabytes:g} GB of memory")
                if time.monotonic() > end:
                    raise _TimeError("the time is over")
                time.sleep(_WAIT)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        errors.seek(0)
        if process.returncode == 0:
            return json.loads(out.read().splitlines()[-1])  # type: ignore[no-any-return]
        lines = errors.read().strip().splitlines()
    last = lines[-1] if lines else "the process was killed, possibly because memory ran out"
    raise EffkerasError(last.removeprefix("error: "))


def _memory(process: int) -> float:
    """The bytes of memory that a process holds; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return 1024 * float(found[0]) if found else 0


def _parser() -> argparse.ArgumentParser:
    options = parser("zoo-report", "Converts, checks, sizes and times the zoo's models, and writes a page.")
    options.add_argument("--data", type=Path, metavar="DIR", help="images that calibrate (default: noise)")
    options.add_argument("--only", nargs="+", metavar="MODEL", help="these models only")
    options.add_argument(
        "--hours", type=float, default=HOURS, metavar="H", help="stop after H; 0 writes the page (default: 6)"
    )
    options.add_argument(
        "--gigabytes", type=above_zero, default=GIGABYTES, metavar="N", help="leave out larger (default: 20)"
    )
    options.add_argument("--again", action="store_true", help="measure models that have a row already too")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument("--page", type=Path, default=PAGE, metavar="F.md", help=f"default: {PAGE}")
    options.add_argument("--row", metavar="MODEL", help="print a model's row, measured in this process")
    return options


if __name__ == "__main__":
    sys.exit(main())
