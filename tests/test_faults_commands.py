"""The short form of `make faults`, parts data and train; the whole of it takes hours."""

from __future__ import annotations

import importlib

import pytest
from faults.campaign import Out


@pytest.mark.parametrize(("part", "count"), [("data", 4), pytest.param("train", 1, marks=pytest.mark.slow)])
def test_a_command_that_is_stopped_loses_nothing(part, count, tmp_path):
    out = Out(part, tmp_path, count)
    importlib.import_module(f"faults.parts.{part}").run(out)
    assert len(out.ends) >= count
    assert set(out.ends.values()) == {"passed"}, out.file.read_text()
