"""One command works in a folder at a time, and the second is told which does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.tiny import tiny_classifier

from effkeras import cli
from effkeras.support import results
from effkeras.support.errors import EffkerasError
from effkeras.support.locks import appending_to, working_in, working_on

HOLD = """
import sys, time
from pathlib import Path
from effkeras.support.locks import working_in
with working_in(Path(sys.argv[1]), "effkeras train"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_works(tmp_path):
    with (
        working_in(tmp_path, "effkeras train"),
        pytest.raises(
            EffkerasError, match=rf"effkeras train \(process {os.getpid()} on .* works on .*; wait"
        ),
        working_in(tmp_path, "effkeras train"),
    ):
        pass
    with working_in(tmp_path, "effkeras train"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_command_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(EffkerasError, match="works on"), working_in(tmp_path, "effkeras train"):
            pass
        other.kill()
    with working_in(tmp_path, "effkeras train"):
        pass


def test_a_folder_that_stays_empty_is_removed(tmp_path):
    with pytest.raises(ValueError, match="no"), working_in(tmp_path / "a" / "b", "effkeras train"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
    with working_in(tmp_path / "a" / "b", "effkeras train"):
        (tmp_path / "a" / "c").touch()
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["c"]


def test_files_beside_each_other_are_held_apart(tmp_path):
    with working_on(tmp_path / "x" / "a.tflite", "one"), working_on(tmp_path / "x" / "b.tflite", "two"):
        third = working_on(tmp_path / "x" / "a.tflite", "three")
        with pytest.raises(EffkerasError, match=r"one .* works on .*a\.tflite"), third:
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EffkerasError, match="cannot create the folder"), working_in(tmp_path / "file", "x"):
        pass


def test_appending_leaves_nothing(tmp_path):
    with appending_to(tmp_path / "rows"):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_rows_of_two_processes_are_all_there(tmp_path):
    """Without a lock, the later of two that had read the same rows took away the other's."""
    code = (
        "import sys; from pathlib import Path; from effkeras.support import results\n"
        "for row in range(40): results.append(Path(sys.argv[1]), [{'from': sys.argv[2], 'row': row}])"
    )
    file = tmp_path / "results.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), name]) for name in "ab"]
    assert [one.wait() for one in writers] == [0, 0]
    rows = results.read(file)
    assert [[row["row"] for row in rows if row["from"] == name] for name in "ab"] == [[*range(40)]] * 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ("train {0}/tiny.toml --data {1} --out {0}/out --weights none --epochs 1", working_in),
        ("export tflite {0}/tiny.toml --out {0}/out.tflite --recipe float32", working_on),
        ("export savedmodel {0}/tiny.toml --out {0}/out", working_on),
    ],
)
def test_a_second_command_is_told_who_works(words, held, digit_classes, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(tiny_classifier().to_toml())
    out = tmp_path / ("out.tflite" if "tflite" in words else "out")
    with held(out, "effkeras first"):
        assert cli.main(words.format(tmp_path, digit_classes).split()) == 2
    assert "error: effkeras first (process " in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["tiny.toml"]
