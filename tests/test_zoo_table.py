"""models/README.md says what the tests prove, no more and no less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.proofs import COLLECTED
from zoo_table import README, page


@pytest.mark.slow
def test_the_table_of_proofs_is_up_to_date(pytestconfig):
    """This run has collected all tests, unless it was given some: then another process collects them."""
    collected = pytestconfig.stash[COLLECTED]
    if collected.is_whole:
        assert page(collected.proofs) == README.read_text(encoding="utf-8"), "run `make zoo-table`"
        return
    script = Path(__file__).parent / "zoo_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make zoo-table`\n{done.stderr[-2000:]}"
