"""What tensorflow-model-optimization answers to the programs beside this one: stored, or asked anew.

`python tests/support/tfmot_answers.py` writes all stored answers anew.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
FOLDER = HERE.parent / "golden" / "tfmot"
PROGRAMS = ("clustering", "pruning", "qat")
# The parameters of a fixture: CI compares with the stored answers, which the nightly run asks for again.
SOURCES = ["stored", pytest.param("asked", marks=pytest.mark.nightly("training"))]


def answers(program: str, source: str, folder: Path) -> dict[str, np.ndarray]:
    """The arrays that `tfmot_<program>.py` writes; `folder` is for those of a process that is asked now."""
    file = FOLDER / f"{program}.npz"
    if source == "asked":
        file = folder / "found.npz"
        _ask(program, file)
    with np.load(file) as found:
        return dict(found)


def _ask(program: str, target: Path) -> None:
    subprocess.run([sys.executable, HERE / f"tfmot_{program}.py", target], check=True, capture_output=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in PROGRAMS:
        _ask(one, FOLDER / f"{one}.npz")
