"""Run folders: the files of a training, which every command accepts, and how its data were read."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from effkeras.data.contents import Contents
from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.inference.threshold import FILE
from effkeras.support import results
from effkeras.support.console import note, note_once
from effkeras.support.errors import EffkerasError, reading_work
from effkeras.support.files import check_can_make, folder_with, make_folder, write_text
from effkeras.support.replacing import remove_strays
from effkeras.support.results import Row
from effkeras.support.tables import read_toml, to_record
from effkeras.training.settings import TrainSettings, changed_setting, settings_of

if TYPE_CHECKING:
    from effkeras.data.records import LabelledData, ReadOptions


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

    @property
    def threshold(self) -> Path:
        """The score from which a detection counts, see `effkeras.inference.threshold`."""
        return self.folder / FILE

    @property
    def data(self) -> Path:
        """The data set of the training, and how it was read."""
        return self.folder / "data.toml"

    def keep_data(self, data: LabelledData, validation: LabelledData | None = None, start: str = "") -> None:
        """Writes down the data set, what it holds, and how it was read; `kept_options` reads it alike.

        `start` names the weights that the training begins with; one that goes on keeps the name.
        """
        splits = {one.split: Contents.of(one) for one in (data, validation) if one is not None}
        if self.checkpoint.is_file() and self.data.is_file():
            start = _kept(self).start
        kept = _Kept(str(data.root.resolve()), data.options.skip_bad, data.options.one_based, splits, start)
        write_text(self.data, tomli_w.dumps(asdict(kept)))

    def check_data(self, data: LabelledData, validation: LabelledData | None, *, accept: bool) -> None:
        """Compares the data with those of the training that goes on here, if there is one.

        Raises EffkerasError, which says what has changed, unless that is accepted: then it is only noted.
        """
        if not (self.checkpoint.is_file() and self.data.is_file()):
            return
        before = _kept(self).splits  # none in folders of earlier versions
        now = {one.split: Contents.of(one) for one in (data, validation) if one is not None}
        changes = [
            f"{split} has {change}"
            for split, contents in now.items()
            if split in before and (change := contents.changes(before[split]))
        ]
        changes += [f"there is no {split} any more" for split in before if split not in now]
        changes += [f"there is a {split} now" for split in now if before and split not in before]
        if not changes:
            return
        what = f"the data are not those that {self.folder} was trained on so far: {'; '.join(changes)}"
        if not accept:
            raise EffkerasError(f"{what}; give --accept-data to go on with them, or another --out")
        note(what)

    def keep_row(self, row: Row) -> None:
        """Adds the row of a validation to the results, unless it is the last there, or is empty.

        The checkpoint holds it first: after a kill between the two, the next run adds it.
        """
        rows = [one for one in results.read(self.results) if one.get("kind") == row.get("kind")]
        if row and (not rows or rows[-1].get("step") != row["step"]):
            results.append(self.results, [row])

    def kept_settings(self) -> TrainSettings | None:
        """The settings of the training in this folder; None if there is none."""
        if not self.settings.is_file():
            return None
        with reading_work(self.settings, f"give {self.folder} its settings again, as options"):
            return settings_of(read_toml(self.settings), str(self.settings))

    def start(self, spec: ModelSpec, settings: TrainSettings) -> None:
        """Creates the folder and writes the definition, labels and settings before the training.

        Unfinished files of a killed training are removed.
        """
        remove_strays(make_folder(self.folder))
        write_text(self.definition, spec.to_toml())
        write_text(self.labels, "".join(f"{label}\n" for label in spec.labels))
        write_text(self.settings, tomli_w.dumps(settings.to_table()))

    def check(self, spec: ModelSpec, settings: TrainSettings) -> None:
        """Raises EffkerasError if the folder cannot be created, or holds a different run."""
        check_can_make(self.folder)
        before = self.kept_settings()
        if before is None or not self.definition.is_file():
            return
        with reading_work(self.definition, "it is written anew from the model that you give"):
            definition = spec_from_table(read_toml(self.definition), str(self.definition))
        if definition != spec:
            raise EffkerasError(
                f"{self.folder} holds a run of another model, or with other regularisers; give another --out"
            )
        changed = changed_setting(settings, before)
        if changed:
            raise EffkerasError(
                f"{self.folder} holds a run with other settings ({changed}); give another --out"
            )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The content of data.toml."""

    data: str
    skip_bad: bool = False
    one_based: bool = False
    splits: dict[str, Contents] = dataclasses.field(default_factory=dict)
    start: str = ""


def _kept(run: Run) -> _Kept:
    with reading_work(run.data, "say again how the data are read (--skip-bad, --voc-one-based)"):
        return to_record(_Kept, read_toml(run.data), str(run.data))


def kept_options(source: str | Path, root: Path, given: ReadOptions) -> ReadOptions:
    """The given options, and those with which the run of a model or artifact read the same data set.

    Args:
        source: a run folder or a file in it, or anything else, which keeps nothing.
        root: the data set.
        given: the options of this command.

    Raises:
        EffkerasError: the run's data.toml is invalid.
    """
    run = _run_of(Path(source))
    if run is None:
        return given
    kept = _kept(run)
    if kept.data != str(Path(root).resolve()):
        return given
    added = {
        name: option
        for name, option in {"skip_bad": "--skip-bad", "one_based": "--voc-one-based"}.items()
        if getattr(kept, name) and not getattr(given, name)
    }
    if added:
        note_once(f"{root} is read with {' and '.join(added.values())}, as for the training of {run.folder}")
    return dataclasses.replace(given, **dict.fromkeys(added, True))


def _run_of(path: Path) -> Run | None:
    """The run that holds a path such as RUN/model.keras, RUN/artifacts/F or RUN/compressed/R/model.keras."""
    any_run = Run(Path())
    folder = folder_with(path, any_run.definition.name, any_run.data.name)
    return None if folder is None else Run(folder)
