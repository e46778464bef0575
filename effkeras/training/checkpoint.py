"""The checkpoint from which an interrupted training resumes: all variables and the progress."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError, reading_work
from effkeras.support.files import whole_file
from effkeras.support.tables import Table


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a training.

    `step` counts the finished steps, `best` is the best validation score so far, `best_step` its step, and
    `waited` the number of validations since. `interval` is the number of steps between validations, which
    grows where they take long; the next is at the step `validate_at`. `seconds` is the time used so far.
    `row` is that of the last validation, which results.jsonl gets after the checkpoint.
    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    waited: int = 0
    stopped: bool = False
    interval: int = 0
    validate_at: int = 0
    seconds: float = 0.0
    row: Table = field(default_factory=dict)


def _progress(table: Table, steps_per_epoch: int) -> Progress:
    """The progress from a checkpoint; older ones counted epochs."""
    if "epoch" not in table:
        return Progress(**table)
    epoch, best = table["epoch"], table["best_epoch"]
    return Progress(
        step=epoch * steps_per_epoch,
        best=table["best"],
        best_step=best * steps_per_epoch,
        waited=epoch - best,
        stopped=table["stopped"],
    )


def save_checkpoint(path: Path, variables: Sequence[Any], progress: Progress) -> None:
    """Writes all variables and the progress; an interrupted write keeps the previous checkpoint."""
    import numpy as np  # not at the top: `--help` of most commands reads this module

    arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(variables)}
    about = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
    with whole_file(path) as temporary:
        np.savez(temporary, progress=about, **arrays)  # type: ignore[arg-type]


def read_progress(path: Path) -> Progress:
    """The progress alone. Raises EffkerasError if the file is corrupt."""
    import numpy as np  # not at the top: `--help` of most commands reads this module

    with reading_work(path, "the training starts again"), np.load(path, allow_pickle=False) as stored:
        return _progress(json.loads(bytes(stored["progress"])), 1)


def load_checkpoint(path: Path, variables: Sequence[Any], steps_per_epoch: int = 1) -> Progress:
    """Restores the variables and returns the progress.

    Raises EffkerasError if the file is corrupt or from another model.
    """
    import numpy as np  # not at the top: `--help` of most commands reads this module

    again = "the training starts again"
    with reading_work(path, again), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        values = [np.asarray(stored[f"v{index}"]) for index in range(len(stored.files) - 1)]
        progress = _progress(json.loads(bytes(stored["progress"])), steps_per_epoch)
    shapes = [tuple(value.shape) for value in values]
    if shapes != [tuple(variable.shape) for variable in variables]:
        raise EffkerasError(f"{path} is from another model; give another --out")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return progress
