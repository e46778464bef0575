"""Two devices, each with half of a batch, compute what one computes with all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "support" / "two_devices.py"


@pytest.mark.slow
def test_losses_statistics_and_updates_are_those_of_the_whole_batch():
    """Losses divided by positives or known pixels, batch normalisation, clipped and accumulated gradients."""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-3000:]
