"""`make bench-bccd PART=name`: what the defaults reach on BCCD, 364 real images of blood cells.

The parts are in bccd_parts.toml. Each run is the commands that a user types; the same again goes on where it
was killed. The figures are those of `effkeras eval` on the split test.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effkeras import cli
from effkeras.support import results
from effkeras.support.console import note, run_command, table
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.files import write_text
from effkeras.support.options import parser
from effkeras.support.tables import read_toml, to_record
from effkeras.training.checkpoint import read_progress
from effkeras.training.run import Run

BCCD = Path("../shared/real/bccd")
_PARTS = Path(__file__).with_name("bccd_parts.toml")
_TRAIN = Path("ImageSets/Main/train.txt")


@dataclass(frozen=True, slots=True)
class BccdRun:
    """One run of a part.

    `train` are the words after `effkeras train`, with `settings` as the text of its TOML file and `images`
    training images (0: all). `quantize` are the words after `effkeras quantize BASE`. `consumers` get an int8
    artifact each.
    """

    name: str
    train: tuple[str, ...] = ()
    settings: str = ""
    images: int = 0
    base: str = ""
    quantize: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()


def parts() -> dict[str, list[BccdRun]]:
    """The runs of each part."""
    return {
        part: [to_record(BccdRun, one, f"{_PARTS}: {part}") for one in runs]
        for part, runs in read_toml(_PARTS).items()
    }


def perform(run: BccdRun, data: Path, runs: Path) -> list[results.Row]:
    """Trains or compresses, exports and measures; rows of what is measured.

    Raises EffkerasError when a command fails.
    """
    folder = runs / run.name
    if run.images:
        data = few_images(data, runs / f"{run.name}-data", run.images)
    start = time.monotonic()
    if run.quantize:
        if not (runs / run.base / "model.keras").is_file():
            raise EffkerasError(f"{run.name} starts from {runs / run.base}; run that part first")
        command(*_on("quantize", data), runs / run.base, *run.quantize, "--out", folder)
        measured = {made.name: made for made in (folder / "artifacts").glob("*.tflite")}
    else:
        command(*_on("train", data), *run.train, *_settings(run, folder), "--out", folder)
        measured = {"model.keras": folder}
    used = time.monotonic() - start if run.quantize else read_progress(Run(folder).checkpoint).seconds
    for consumer in run.consumers:
        out = folder / "artifacts" / f"{consumer}.tflite"
        command(*_on("export tflite", data), folder, "--for", consumer, "--out", out)
        measured[out.name] = out
    return [
        {"kind": "bccd", "run": run.name, "command": _words(run), "minutes": round(used / 60, 1)}
        | _measured(path, name, data)
        for name, path in measured.items()
    ]


def _on(verb: str, data: Path) -> list[str]:
    return [*verb.split(), "--data", str(data), "--skip-bad"]


def _settings(run: BccdRun, folder: Path) -> list[str]:
    if not run.settings:
        return []
    file = folder.with_suffix(".toml")
    write_text(file, run.settings)
    return ["--config", str(file)]


def _words(run: BccdRun) -> str:
    return shlex.join(["quantize", run.base, *run.quantize] if run.quantize else ["train", *run.train])


def _measured(path: Path, name: str, data: Path) -> results.Row:
    """The part of a row that `effkeras eval` measures on the split test."""
    command(*_on("eval", data), path, "--split", "test")
    folder = path if path.is_dir() else path.parent
    folder = folder.parent if folder.name == "artifacts" else folder
    row = next(row for row in reversed(results.read(folder / "results.jsonl")) if row.get("kind") == "eval")
    kept: results.Row = {
        key: row[key] for key in ("images", "metrics", "threshold", "by_class") if key in row
    }
    size = path.stat().st_size if path.is_file() else (path / name).stat().st_size
    return {"artifact": name, "bytes": size, "split": "test", **kept}


def few_images(data: Path, to: Path, count: int) -> Path:
    """A copy of a Pascal VOC folder with `count` of its training images, spread evenly over the split."""
    if not to.is_dir():
        shutil.copytree(data, to)
        names = (data / _TRAIN).read_text(encoding="utf-8").split()
        kept = [names[position * len(names) // count] for position in range(count)]
        write_text(to / _TRAIN, "".join(f"{name}\n" for name in kept))
    return to


def command(*words: object) -> None:
    """Prints a command and runs it. Raises EffkerasError when its exit code is not 0."""
    texts = [str(word) for word in words]
    note(f"\n$ effkeras {shlex.join(texts)}")
    if cli.main(texts):
        raise EffkerasError(f"this command failed: effkeras {shlex.join(texts)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs parts."""
    return run_command(lambda: _run(argv), resumes=True)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    if not chosen.data.is_dir():
        raise EffkerasError(f"BCCD is not at {chosen.data}; give --data the folder with its Annotations")
    known = parts()
    unknown = [part for part in chosen.parts if part not in known]
    if unknown:
        raise EffkerasError(f"there is no part {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    for run in [run for part in chosen.parts or known for run in known[part]]:
        rows = perform(run, chosen.data, chosen.runs)
        table(run.name, ["artifact", "AP", "AP50"], [_cells(row) for row in rows])
        if chosen.out is not None:
            results.append(chosen.out, [results.stamped(row) for row in rows])


def _cells(row: results.Row) -> list[str]:
    return [row["artifact"], f"{row['metrics']['AP']:.3f}", f"{row['metrics']['AP50']:.3f}"]


def _parser() -> argparse.ArgumentParser:
    options = parser("export bccd", "Trains, compresses and measures detectors on BCCD.")
    options.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(parts())} (default: all; hours)"
    )
    options.add_argument("--data", type=Path, default=BCCD, help=f"the Pascal VOC folder (default: {BCCD})")
    options.add_argument("--runs", type=Path, default=Path("runs/bccd"), help="default: runs/bccd")
    options.add_argument("--out", type=Path, metavar="JSONL", help="add the rows to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
