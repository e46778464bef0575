"""models/README.md says what the tests prove, no more and no less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_table_of_proofs_is_up_to_date():
    script = Path(__file__).parent / "zoo_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make zoo-table`\n{done.stderr[-2000:]}"
