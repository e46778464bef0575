"""`effkeras export metadata F.tflite`: restores metadata after edgetpu_compiler, sets labels, calibration."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.console import hint, note, run_command, say
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, parser

if TYPE_CHECKING:
    from effkeras.litert.metadata.records import ScoreTransformation

TRANSFORMATIONS: dict[str, ScoreTransformation] = {
    "identity": "IDENTITY",
    "log": "LOG",
    "inverse-logistic": "INVERSE_LOGISTIC",
}


VERB = Verb("export metadata", "put metadata back after edgetpu_compiler; set labels")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    _check(chosen)
    out = chosen.out or chosen.file
    if out.suffix != ".tflite":
        raise EffkerasError(f"--out {out}: the file name must end in .tflite")
    from effkeras.litert.runner import read_flatbuffer
    from export.metadata.attaching import restore, write_checked

    flatbuffer = read_flatbuffer(chosen.file)
    try:
        if chosen.original is not None:
            made = restore(flatbuffer, read_flatbuffer(chosen.original))
        else:
            made = _amended(flatbuffer, chosen)
    except EffkerasError as error:
        raise EffkerasError(f"{chosen.file}: {error}") from error
    write_checked(out, made, flatbuffer)
    say(f"{out}: written")
    hint(shlex.join(["effkeras", "export", "inspect", str(out)]))


def _check(chosen: argparse.Namespace) -> None:
    amends = chosen.labels is not None or chosen.calibration is not None
    if amends == (chosen.original is not None):
        raise EffkerasError("give either --from ORIGINAL.tflite, or --labels or --calibration or both")
    if chosen.calibration is None and (chosen.score_transformation or chosen.default_score is not None):
        raise EffkerasError("--score-transformation and --default-score go with --calibration")
    if chosen.default_score is not None and not math.isfinite(chosen.default_score):
        raise EffkerasError(f"--default-score {chosen.default_score} is no score")


def _amended(flatbuffer: bytes, chosen: argparse.Namespace) -> bytes:
    from effkeras.litert.metadata.associated_files import read_calibration, read_labels
    from effkeras.litert.metadata.records import ScoreCalibration
    from effkeras.litert.runner import definition_of
    from export.metadata.attaching import with_calibration, with_labels

    classes = definition_of(flatbuffer).classes
    if chosen.labels is not None:
        flatbuffer = with_labels(flatbuffer, read_labels(chosen.labels, classes))
    if chosen.calibration is None:
        return flatbuffer
    parameters = read_calibration(chosen.calibration, classes)
    note(f"{sum(map(bool, parameters.splitlines()))} of {classes} classes are calibrated")
    transformation = TRANSFORMATIONS[chosen.score_transformation or "identity"]
    how = ScoreCalibration(transformation, chosen.default_score or 0.0)
    return with_calibration(flatbuffer, how, parameters)


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name, "Puts metadata into a .tflite that lacks it, or gives it labels and a calibration."
    )
    options.add_argument("file", type=Path, metavar="F.tflite", help="the file to complete")
    options.add_argument(
        "--from",
        dest="original",
        type=Path,
        metavar="ORIGINAL.tflite",
        help="put back what edgetpu_compiler dropped when it made F of this file",
    )
    options.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line")
    options.add_argument(
        "--calibration",
        type=Path,
        metavar="F.csv",
        help="for each class a line: scale, slope, offset and perhaps a smallest score; or an empty line",
    )
    options.add_argument(
        "--score-transformation",
        choices=list(TRANSFORMATIONS),
        metavar="WHAT",
        help=f"done to scores before calibration: {', '.join(TRANSFORMATIONS)} (default: identity)",
    )
    options.add_argument(
        "--default-score",
        type=float,
        metavar="S",
        help="of classes with an empty line and below the smallest (default: 0)",
    )
    options.add_argument("--out", type=Path, metavar="F.tflite", help="default: F.tflite itself")
    return options


if __name__ == "__main__":
    sys.exit(main())
