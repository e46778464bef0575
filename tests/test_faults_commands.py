"""The short form of `make faults`, parts data and train; the whole of it takes hours."""

from __future__ import annotations

import importlib

import pytest
from faults.campaign import Out
from faults.commands import Command, FaultError, Lab, same_files
from faults.parts.data import LIGHT


@pytest.mark.parametrize(("part", "count"), [("data", 4), pytest.param("train", 1, marks=pytest.mark.slow)])
def test_a_command_that_is_stopped_loses_nothing(part, count, tmp_path):
    out = Out(part, tmp_path, count, jobs=2)
    importlib.import_module(f"faults.parts.{part}").run(out)
    assert len(out.ends) >= count
    assert set(out.ends.values()) == {"passed"}, out.file.read_text()


def test_what_is_written_elsewhere_is_a_fault(tmp_path):
    def arguments(inputs, out):
        return ["data", "digits", str(tmp_path / "elsewhere"), "--train", "2", "--val", "1", "--test", "1"]

    command = Command("elsewhere", arguments, same_files, preload=LIGHT)
    with pytest.raises(FaultError, match=r"os\.mkdir .*/elsewhere") as caught:
        Lab(command, tmp_path, tmp_path / "work", timed=False)
    assert caught.value.end == "outside"
