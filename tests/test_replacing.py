"""Whenever a writer is killed, a whole file or folder has the name, and the next writer cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from effkeras.support import replacing
from effkeras.support.files import whole_file, whole_folder, write_text
from effkeras.support.replacing import PREFIX, exchange, remove_strays

# Kills itself at the named step of replacing the folder `made`.
KILLED = """
import os, signal, sys
from pathlib import Path
from effkeras.support import replacing
from effkeras.support.files import whole_folder
step, folder, atomic = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "atomic"
if not atomic:
    replacing.exchange = lambda one, other: False
number = 0
def counted(call):
    def wrapped(*args):
        global number
        number += 1
        if str(number) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args)
    return wrapped
for name in ("_sync", "exchange", "_swap"):
    setattr(replacing, name, counted(getattr(replacing, name)))
Path.rename = counted(Path.rename)
with whole_folder(folder / "made") as fresh:
    (fresh / "a").write_text("new")
    (fresh / "b").write_text("new")
print(number)
"""


def contents(folder):
    return {one.name: one.read_text() for one in folder.iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="kills")
@pytest.mark.parametrize("how", ["atomic", "by two renames"])
def test_a_folder_is_whole_whatever_step_the_writer_is_killed_at(how, tmp_path):
    environment = os.environ | {"EFFKERAS_FSYNC": "1"}
    for step in range(1, 20):
        folder = tmp_path / str(step)
        (folder / "made").mkdir(parents=True)
        (folder / "made" / "old").write_text("old")
        command = [sys.executable, "-c", KILLED, str(step), str(folder), how]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if how == "atomic":
            assert (folder / "made").is_dir()  # at every moment
        remove_strays(folder)
        assert contents(folder / "made") in ({"old": "old"}, {"a": "new", "b": "new"})
        assert [one.name for one in folder.iterdir()] == ["made"]
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert step > 4


def test_two_folders_change_places(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if exchange(tmp_path / "one", tmp_path / "other"):
        assert (tmp_path / "one" / "other").exists()
        assert (tmp_path / "other" / "one").exists()
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "one", tmp_path / "nothing")


def test_files_of_killed_processes_are_removed(tmp_path):
    """Not those that a living process holds, whatever its number, or anything of somebody else."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    kept = [f"{PREFIX}{os.getppid()}-a.npz", f".{ended.pid}-a.npz", ".hidden-a.npz", f"{PREFIX}a.npz"]
    for name in (f"{PREFIX}{ended.pid}-a.npz", f"{PREFIX}{os.getpid()}-b.keras", *kept):
        (tmp_path / name).touch()
    held = tmp_path / f"{PREFIX}{ended.pid}-held.npz"
    with held.open("w") as handle:
        replacing.flock_or_nothing(handle, wait=False)
        remove_strays(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, held.name])


def test_the_next_writer_in_a_folder_removes_them(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f"{PREFIX}{ended.pid}-a.npz").touch()
    (tmp_path / f"{PREFIX}{ended.pid}-b").mkdir()
    write_text(tmp_path / "b.txt", "x")
    assert [one.name for one in tmp_path.iterdir()] == ["b.txt"]


def test_what_is_being_written_is_no_stray(tmp_path):
    with whole_file(tmp_path / "a.npz") as file, whole_folder(tmp_path / "b") as folder:
        remove_strays(tmp_path)
        assert file.exists()
        assert folder.exists()


def test_content_and_name_are_on_the_disk(tmp_path, monkeypatch):
    """Files of a folder that is not finished wait for the folder."""
    monkeypatch.setenv("EFFKERAS_FSYNC", "1")
    synced = []
    monkeypatch.setattr(replacing, "_sync", lambda path: synced.append(path.name))
    write_text(tmp_path / "a.txt", "x")
    assert len(synced) == 2
    assert synced[1] == tmp_path.name
    with whole_folder(tmp_path / "made") as fresh:
        synced.clear()
        write_text(fresh / "b.txt", "x")
        assert synced == []
    assert synced == ["b.txt", "made", tmp_path.name]


def test_an_error_of_another_file_is_not_blamed_on_the_writer(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()
    with pytest.raises(BrokenPipeError), whole_file(tmp_path / "a.txt"):
        raise BrokenPipeError
    assert list(tmp_path.iterdir()) == []
