"""The state that a training resumes from, exact to the bit."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.files import whole_file


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is: finished epochs, the best validation so far and when it was."""

    epoch: int = 0
    best: float = float("-inf")
    best_epoch: int = 0
    stopped: bool = False


def save_checkpoint(path: Path, variables: Sequence[Any], progress: Progress) -> None:
    """Writes all variables and the progress, whole or not at all."""
    arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(variables)}
    about = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
    with whole_file(path) as temporary:
        np.savez(temporary, progress=about, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: Path, variables: Sequence[Any]) -> Progress:
    """Restores the variables and returns the progress.

    Raises EffkerasError when the file is corrupt or from another model.
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
