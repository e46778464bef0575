"""The score from which a detection counts: chosen on val, kept in the run folder and in exported files.

It is a measurement of a model, and no part of its definition: a definition stays equal, and what was cached
for it valid, when the threshold is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.console import note
from effkeras.support.errors import EffkerasError, reading_work
from effkeras.support.files import folder_with, write_text
from effkeras.support.tables import read_toml, to_record, to_table

if TYPE_CHECKING:
    from effkeras.data.records import LabelledData
    from effkeras.inference.predictor import Predictor
    from effkeras.inference.task import Breakdown

FILE = "threshold.toml"
ENTRY = "effkeras.threshold"  # of a .tflite file's metadata
DEFAULT = 0.3  # the score where no threshold is known


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score with the highest F1 over all classes at IoU 0.5, and the images that it was chosen on."""

    score: float
    f1: float
    split: str
    images: int

    def to_bytes(self) -> bytes:
        """The content of a metadata entry."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, entry: bytes) -> Threshold:
        """Reads a metadata entry. Raises EffkerasError for a damaged one."""
        try:
            return to_record(cls, dict(json.loads(entry)), ENTRY)
        except (ValueError, TypeError, RecursionError) as error:
            raise EffkerasError(f"{ENTRY} in the .tflite is damaged; export the model again") from error

    def save(self, folder: Path) -> None:
        """Writes it into a run folder."""
        import tomli_w

        write_text(folder / FILE, tomli_w.dumps(to_table(self)))


def best_threshold(predictor: Predictor, data: LabelledData) -> Threshold | None:
    """The threshold of a detector on labelled images; None if it finds nothing right, or no boxes at all.

    Raises EffkerasError as `effkeras.inference.evaluate.evaluate` does.
    """
    from effkeras.inference.evaluate import evaluate_in_detail  # not at the top: `--help` reads this module

    if not predictor.spec.detects:
        return None
    evaluation = evaluate_in_detail(predictor, data, title="choosing the threshold")
    return threshold_of(evaluation.breakdowns(), data.split, len(data.records))


def threshold_of(breakdowns: Mapping[str, Breakdown], split: str, images: int) -> Threshold | None:
    """The threshold in the breakdowns of a model's tasks, measured on `images` images of a split."""
    for one in breakdowns.values():
        if one.score is not None:
            return Threshold(one.score, one.overall["F1"], split, images)
    return None


def threshold_for(source: str | Path, predictor: Predictor) -> Threshold | None:
    """The threshold to use with a model: that of an exported file's metadata, else `kept_threshold`.

    Raises EffkerasError if it is damaged.
    """
    from effkeras.litert.rewriting import attached
    from effkeras.litert.runner import LiteRTModel

    entry = attached(predictor.flatbuffer, ENTRY) if isinstance(predictor, LiteRTModel) else None
    return kept_threshold(source) if entry is None else Threshold.from_bytes(entry)


def score_for(source: str | Path, predictor: Predictor) -> float:
    """The score from which a model's boxes count: its threshold, which is noted, else `DEFAULT`."""
    kept = threshold_for(source, predictor) if predictor.spec.detects else None
    if kept is None:
        return DEFAULT
    note(f"boxes from score {kept.score:.4g} on: the best threshold on {kept.images} images of {kept.split}")
    return kept.score


def kept_threshold(source: str | Path) -> Threshold | None:
    """The threshold kept by the run that holds a model or artifact; None if there is none.

    Raises EffkerasError if the run's file is invalid.
    """
    folder = folder_with(Path(source), FILE, "model.toml")
    if folder is None:
        return None
    with reading_work(folder / FILE, f"boxes count from score {DEFAULT} until `effkeras eval` on val"):
        return to_record(Threshold, read_toml(folder / FILE), str(folder / FILE))
