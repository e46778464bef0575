"""Run folders: the files of a training, which every command accepts, and the checkpoint."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.support.errors import EffkerasError
from effkeras.support.files import check_can_make, make_folder, whole_file, write_text
from effkeras.support.tables import read_toml, to_record
from effkeras.training.settings import TrainSettings, difference


@dataclass(frozen=True, slots=True)
class Run:
    """The files of a run folder."""

    folder: Path

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.folder / "model.keras"

    @property
    def definition(self) -> Path:
        """The resolved definition."""
        return self.folder / "model.toml"

    @property
    def settings(self) -> Path:
        """The settings of the training."""
        return self.folder / "train.toml"

    @property
    def labels(self) -> Path:
        """Class names, one per line."""
        return self.folder / "labels.txt"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint from which an interrupted training resumes."""
        return self.folder / "checkpoint.npz"

    @property
    def results(self) -> Path:
        """All measurements of this run."""
        return self.folder / "results.jsonl"

    @property
    def artifacts(self) -> Path:
        """Exported files."""
        return self.folder / "artifacts"

    def start(self, spec: ModelSpec, settings: TrainSettings) -> None:
        """Creates the folder and writes the definition, labels and settings before the training."""
        make_folder(self.folder)
        write_text(self.definition, spec.to_toml())
        write_text(self.labels, "".join(f"{label}\n" for label in spec.labels))
        write_text(self.settings, tomli_w.dumps(settings.to_table()))

    def check(self, spec: ModelSpec, settings: TrainSettings) -> None:
        """Raises EffkerasError if the folder cannot be created, or holds a different run."""
        check_can_make(self.folder)
        if not (self.definition.is_file() and self.settings.is_file()):
            return
        where = str(self.settings)
        if spec_from_table(read_toml(self.definition), str(self.definition)) != spec:
            raise EffkerasError(
                f"{self.folder} holds a run of another model, or with other regularisers; give another --out"
            )
        changed = difference(settings, to_record(TrainSettings, read_toml(self.settings), where))
        if changed:
            raise EffkerasError(
                f"{self.folder} holds a run with other settings ({changed}); give another --out"
            )


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a training: finished epochs, the best validation score so far and its epoch."""

    epoch: int = 0
    best: float = float("-inf")
    best_epoch: int = 0
    stopped: bool = False


def save_checkpoint(path: Path, variables: Sequence[Any], progress: Progress) -> None:
    """Writes all variables and the progress; an interrupted write keeps the previous checkpoint."""
    arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(variables)}
    about = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
    with whole_file(path) as temporary:
        np.savez(temporary, progress=about, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: Path, variables: Sequence[Any]) -> Progress:
    """Restores the variables and returns the progress.

    Raises EffkerasError if the file is corrupt or from another model.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            values = [stored[f"v{index}"] for index in range(len(stored.files) - 1)]
            progress = Progress(**json.loads(bytes(stored["progress"])))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise EffkerasError(f"{path} is corrupt; delete it to train from the start ({error})") from error
    shapes = [tuple(value.shape) for value in values]
    if shapes != [tuple(variable.shape) for variable in variables]:
        raise EffkerasError(f"{path} is from another model; give another --out")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress
