"""A run folder: what one training leaves behind and every command takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomli_w

from effkeras.definition import ModelSpec, spec_from_table
from effkeras.errors import EffkerasError
from effkeras.files import check_can_make, make_folder, write_text
from effkeras.tables import read_toml, to_record
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
        """Class names, one a line."""
        return self.folder / "labels.txt"

    @property
    def checkpoint(self) -> Path:
        """What an interrupted training resumes from."""
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
        """Creates the folder and writes what is known before the training."""
        make_folder(self.folder)
        write_text(self.definition, spec.to_toml())
        write_text(self.labels, "".join(f"{label}\n" for label in spec.labels))
        write_text(self.settings, tomli_w.dumps(settings.to_table()))

    def check(self, spec: ModelSpec, settings: TrainSettings) -> None:
        """Raises EffkerasError when the folder cannot be made, or holds a run of another kind."""
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
