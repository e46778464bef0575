"""The campaign of `make faults`: its rows, its table, and a short form of each part."""

from __future__ import annotations

import json
import math
import os
import random
import re
from pathlib import Path

import pytest
from faults import campaign, damage
from faults.__main__ import names
from faults.campaign import FAULTS, Out, faults_in, table
from faults.child import _written
from faults.parts.mutations import outcome
from faults.readers import READERS, Reader

SEED = 0
FEW = 12  # damaged copies of each kind of file; `make faults PART=mutations` has 10,000 in all
# These load TensorFlow's or Keras's whole machinery for each copy.
SLOW = {"Keras model": 2, "TFLite": 2, "search space": 2, "work: search": 6}
# Too deep for JSON's reader, more digits than Python takes, and what is nothing.
CRAFTED = (b"[" * 100_000, b'{"a": %s}\n' % (b"9" * 5000), b"", b"\0" * 1000, b"\xff" * 1000)


@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_files_are_read_or_refused_in_a_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))
    reader = READERS[name]
    folder = tmp_path / "good"
    folder.mkdir()
    file = reader.make(folder)
    reader.read(file)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    content = file.read_bytes()
    for number in range(SLOW.get(name, FEW)):
        bad = damage.damaged(content, reader.layers, f"{SEED}-{name}-{number}")
        assert outcome(reader, file, bad)[0] in ("read", "refused"), number
    for bad in CRAFTED:
        assert outcome(reader, file, bad)[0] in ("read", "refused"), bad[:10]
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert {path.name for path in after - before} <= {"unpacked", "model"} | {
        p.name for p in folder.rglob("*")
    }
    assert file.read_bytes() == content


def test_damage_is_the_same_for_the_same_seed():
    content = bytes(range(256))
    assert damage.damaged(content, (), "a") == damage.damaged(content, (), "a")
    assert len({damage.damaged(content, (), str(number)) for number in range(50)}) > 40
    for kind in damage.KINDS:
        kind(b"", random.Random(0))


def test_what_is_neither_read_nor_refused_is_a_fault(tmp_path):
    def fails(path):
        raise KeyError("x")

    def hangs(path):
        raise TimeoutError("took more than")

    file = tmp_path / "a"
    file.write_bytes(b"good")
    assert outcome(Reader(lambda folder: file, fails), file, b"bad") == ("traceback", "KeyError: 'x'")
    assert outcome(Reader(lambda folder: file, hangs), file, b"bad")[0] == "hung"
    assert outcome(Reader(lambda folder: file, lambda path: None), file, b"bad") == ("read", "")


def test_a_part_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    out = Out("some", tmp_path)
    out.add("one", "read")
    out.add("two", "hung", "it waits")
    with out.file.open("a") as file:
        file.write('{"case": "cut')
    again = Out("some", tmp_path)
    assert again.has("one")
    assert again.has("two")
    assert not again.has("cut")
    assert not again.is_clean
    assert faults_in(out.file) == ["two: hung: it waits"]
    rows = table([out.file]).splitlines()
    assert rows[-2].startswith(f"| some | {campaign.commit()} | in part | 2 |")
    assert rows[-1].split("|")[5:-1] == [f" {int(fault == 'hung')} " for fault in FAULTS]
    monkeypatch.setattr(campaign, "commit", lambda: "another")
    assert not Out("some", tmp_path).has("one")
    assert json.loads(out.file.read_text()) == {"part": "some", "commit": "another"}


def test_cases_run_at_once_until_the_time_is_over(tmp_path):
    def ends(how):
        if how == "read":
            late.until = 0
        return how, ""

    out = Out("some", tmp_path, jobs=2)
    out.run("x", lambda how: (how, ""), {how: (how,) for how in ("passed", "refused", "lost")})
    assert set(out.ends) == {"passed", "refused", "lost"}
    late = Out("late", tmp_path)
    late.run("x", ends, {"one": ("read",), "two": ("passed",)})
    assert late.ends == {"one": "read"}
    late.until, late.planned = math.inf, 2
    late.run("x", ends, {"two": ("passed",)}, until=0)
    for part in (out, late):
        part.end()
    rows = table(tmp_path.glob("*.jsonl"), ("some", "third")).splitlines()[2:]
    assert [row.split("|")[3].strip() for row in rows] == ["in part, of 2", "whole", "not yet", ""]


def test_what_is_written_is_heard():
    here = Path.cwd()
    assert _written("open", ("a", "w", os.O_WRONLY)) == [here / "a"]
    assert _written("open", (b"a/../b", None, os.O_CREAT | os.O_RDWR)) == [here / "b"]
    assert _written("os.rename", (Path("/a"), "b", -1, -1)) == [Path("/a"), here / "b"]
    for event, arguments in (
        ("open", ("a", "r", os.O_RDONLY)),
        ("open", (3, "w", os.O_WRONLY)),
        ("os.remove", ("a", 7)),
        ("import", ("a", None)),
    ):
        assert _written(event, arguments) == []


def test_every_part_runs_at_night():
    workflow = (campaign.ROOT / ".github" / "workflows" / "nightly.yml").read_text("utf-8")
    parts = re.search(r"faults:.*?part: \[(.*?)\]", workflow, re.DOTALL)[1].split(", ")
    assert parts == names()
