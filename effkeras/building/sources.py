"""The model that a command names: a run folder, a .keras file, a zoo name or a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.support.console import quiet, warn
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    import keras

SAVED_MODEL = "saved_model.pb"  # the graph file in the folder of a SavedModel
_RUN_MODEL = "model.keras"  # the model in a run folder
_SUFFIXES = (".keras", ".toml")


def open_model(source: str, weights: str | None = None) -> keras.Model:
    """Opens the model that `source` names.

    Args:
        source: a run folder, a `.keras` file, a name of `effkeras list`, or a TOML file.
        weights: for a zoo name or a TOML file, as in `effkeras.build`; None gives random weights that are
            the same in every process.

    Raises:
        EffkerasError: there is no such model, it is corrupt, or `weights` is given for a saved model.
    """
    path = Path(source)
    if path.suffix == ".tflite" or is_saved_model(path):
        raise EffkerasError(
            f"{source} is an artifact already; give the run folder or .keras it was made from"
        )
    is_saved = path.is_dir() or path.suffix == ".keras"
    if is_saved and weights is not None:
        raise EffkerasError(f"{source} has its own weights; --weights goes with a zoo name or a TOML file")
    is_random = not is_saved and weights is None
    with quiet():
        from effkeras.building.models import build
        from effkeras.weights.keras_files import load

        if is_random:
            _seed()
        model = load(path) if is_saved else build(source, weights=weights)
    if is_random:
        warn(f"{source}: random weights; size and speed will be true, accuracy will not")
    return model


def is_saved_model(folder: Path) -> bool:
    """Whether a folder holds a SavedModel, from any exporter."""
    return (folder / SAVED_MODEL).is_file()


def run_folder(source: str) -> Path | None:
    """`source` as a path if it is a run folder, else None."""
    path = Path(source)
    return path if (path / _RUN_MODEL).is_file() else None


def run_of_artifact(file: Path) -> Path | None:
    """The run folder of an artifact at RUN/artifacts/FILE; None if it is elsewhere."""
    folder = file.resolve().parent
    return run_folder(str(folder.parent)) if folder.name == "artifacts" else None


def file_stem(source: str) -> str:
    """The stem of names of files made from `source`: its name without folder, `.keras` and `.toml`.

    Other text after a dot belongs to the name: mnasnet-a1-0.35 and mnasnet-a1-0.5 are two models.
    """
    path = Path(source)
    return path.stem if path.suffix in _SUFFIXES else path.name


def _seed() -> None:
    import keras

    keras.utils.set_random_seed(0)
