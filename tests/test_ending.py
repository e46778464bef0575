"""Every error that a user can act on is one line and an exit code; a stopped command leaves nothing."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from support.signals import heed_signals

from effkeras.support.ending import ended

CODE = """
import os, sys, time
from pathlib import Path
from effkeras.support.ending import ended
from effkeras.support.files import whole_file, whole_folder
def work():
    {work}
raise SystemExit(ended(work))
"""
WRITES = """with whole_file(Path("a.npz")), whole_folder(Path("b")):
        print("in", flush=True)
        time.sleep(60)"""


STORE = "the store of the search cannot be used"


class ResourceExhaustedError(Exception):
    """As TensorFlow's, of a device without memory."""


def error_of(module, name, text):
    return type(name, (Exception,), {"__module__": module})(text)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), "x/y: No space left on device; free some"),
        (OSError(errno.EROFS, "Read-only file system", b"x/y"), "x/y: Read-only file system; give a place"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied; give a place where"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "x: No such file or directory"),
        (OSError("Unable to create file\nerrno = 28"), "Unable to create file"),
        (MemoryError(), "there is not enough memory"),
        (MemoryError("Unable to allocate 20 GiB"), "there is not enough memory (Unable to allocate 20 GiB)"),
        (ResourceExhaustedError("OOM when allocating"), "there is not enough memory (OOM when allocating"),
        (
            sqlite3.OperationalError("disk I/O error"),
            f"{STORE}: disk I/O error",
        ),
        (
            error_of("sqlalchemy.exc", "DBError", "full\n(more)"),
            f"{STORE}: full",
        ),
        (error_of("optuna.exceptions", "E", "gone"), f"{STORE}: gone"),
    ],
)
def test_what_a_user_can_act_on_is_one_line(error, line, capsys):
    def fail():
        raise error

    assert ended(fail) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {line}")
    assert said.count("\n") == 1


def test_a_mistake_of_ours_is_raised():
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 // 0)


def run(work, folder, **options):
    return subprocess.Popen(
        [sys.executable, "-c", CODE.format(work=work)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
        **{"preexec_fn": heed_signals, **options},
    )


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted; "),
        (signal.SIGTERM, 143, "stopped by SIGTERM; "),
        (1, 129, "stopped"),
    ],
)
def test_a_stopped_command_leaves_nothing(number, code, said, tmp_path):
    process = run(WRITES, tmp_path)
    assert process.stdout.readline() == "in\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    error = process.communicate(timeout=30)[1]
    assert (process.returncode, error.count("\n")) == (code, 1), error
    assert error.startswith(said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_command_that_nohup_started_outlives_its_terminal(tmp_path):
    work = "print('in', flush=True); time.sleep(0.2)"
    process = run(work, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("work", ["print('x')", "[print('x' * 999) for i in range(999)]", WRITES])
def test_a_closed_pipe_ends_quietly(work, tmp_path):
    """Also when all is printed in one piece at the end, and in the middle of writing a file."""
    process = run(f"time.sleep(0.2)\n    {work.replace('time.sleep(60)', 'print(2)')}", tmp_path)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="a shell")
@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">&-", 2, "error: stdout is closed; send it to a file, or to /dev/null\n"),
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
        (">/dev/full", 2, "error: No space left on device; free some space, then run it again\n"),
    ],
)
def test_closed_and_full_streams(redirected, code, said):
    command = f'"{sys.executable}" -m effkeras --version {redirected}'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the folder stays while it is used")
def test_a_vanished_folder_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    work = "os.rmdir(Path.cwd()); Path('x').resolve()"
    error = run(work, gone).communicate(timeout=30)[1]
    assert error == "error: the current folder is gone; change to another one\n"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interruption_while_a_verb_is_imported_is_one_line(tmp_path):
    code = (
        "import importlib, os, signal; from effkeras import cli\n"
        "importlib.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.commands = lambda: {'list': cli.Command('x', '')}\n"
        "raise SystemExit(cli.main(['list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=heed_signals
    )
    assert (done.returncode, done.stderr) == (130, "interrupted; no unfinished file is left\n")
