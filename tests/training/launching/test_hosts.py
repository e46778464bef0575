"""Workers on the hosts of a file: how it is read, and how one worker's end ends all."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from effkeras.cli import main
from effkeras.support.errors import EffkerasError
from effkeras.training.launching import start_workers
from effkeras.training.launching.hosts import FIRST_PORT, Host, addresses, launch, read_hosts
from effkeras.training.launching.worker import Launch

HERE = (Host("127.0.0.1"), Host("127.0.0.1"))


@dataclass(frozen=True)
class Program(Launch):
    """A launch of a small program in place of a training; `number` is the worker's, `out` the folder."""

    program: str = ""

    @property
    def command(self) -> list[str]:
        head = "import json, os, signal, sys, time; config = json.loads(os.environ['TF_CONFIG']); "
        return [sys.executable, "-c", head + "number = config['task']['index']\n" + self.program]


def program(out: Path, text: str) -> Program:
    return Program((), out, text)


def test_a_file_of_hosts(tmp_path):
    (tmp_path / "hosts").write_text("# the chief first\na\nb:3000  # a port\n\na\n")
    hosts = read_hosts(tmp_path / "hosts")
    assert hosts == (Host("a"), Host("b", 3000), Host("a"))
    assert addresses(hosts) == (f"a:{FIRST_PORT}", "b:3000", f"a:{FIRST_PORT + 1}")


def test_workers_here_get_free_ports():
    places = addresses(HERE)
    assert len(set(places)) == 2
    assert all(place.startswith("127.0.0.1:") for place in places)


@pytest.mark.parametrize(
    "line", ["a b", "-oProxyCommand=x", "a:x", ":1", "a:99999", "a:²", f"a:{'9' * 5000}"]
)
def test_other_lines_are_refused(tmp_path, line):
    (tmp_path / "hosts").write_text(f"a\n{line}\n")
    with pytest.raises(EffkerasError, match="hosts:2"):
        read_hosts(tmp_path / "hosts")


def test_one_host_is_no_cluster(tmp_path):
    (tmp_path / "hosts").write_text("a\n")
    with pytest.raises(EffkerasError, match="names 1 hosts"):
        read_hosts(tmp_path / "hosts")


def test_others_cannot_reach_localhost():
    with pytest.raises(EffkerasError, match="cannot reach this one as localhost"):
        addresses((Host("localhost"), Host("elsewhere")))


@pytest.mark.parametrize(
    ("workers", "ray", "said"),
    [("2", None, "give a text file"), (None, "auto", "--workers 2, not none"), ("h", "auto", "not h")],
)
def test_workers_are_a_file_or_with_ray_a_number(tmp_path, workers, ray, said):
    with pytest.raises(EffkerasError, match=said):
        start_workers(Launch((), tmp_path), workers, ray)


def test_the_command_asks_for_a_file(tmp_path, capsys):
    words = ["efficientnet-digits", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main(["train", *words, "--workers", str(tmp_path / "none")]) == 2
    assert "give a text file with HOST" in capsys.readouterr().err


def test_all_work_and_end(tmp_path):
    write = "from pathlib import Path\nPath(config['cluster']['worker'][number].split(':')[1]).touch()"
    text = f"os.chdir({str(tmp_path)!r}); {write.splitlines()[0]}\n{write.splitlines()[1]}; print('done')"
    assert launch(HERE, program(tmp_path, text)) == 0
    assert len([path for path in tmp_path.iterdir() if path.name.isdigit()]) == 2
    assert (tmp_path / "logs" / "worker-1.log").read_text() == "done\n"


def test_a_killed_worker_ends_all_with_one_line(tmp_path):
    text = f"""
open({str(tmp_path)!r} + f'/{{number}}', 'w').write(str(os.getpid()))
if number: os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
    with pytest.raises(EffkerasError, match=r"^worker 1 at .* was killed by SIGKILL.*last checkpoint$"):
        launch(HERE, program(tmp_path, text))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "0").read_text()), 0)


def test_a_worker_with_other_input_says_why(tmp_path):
    text = "if number: print('error: no such file', file=sys.stderr); sys.exit(2)\ntime.sleep(1); sys.exit(0)"
    with pytest.raises(EffkerasError, match=r"worker 1 at .*: no such file"):
        launch(HERE, program(tmp_path, text))


def test_the_chief_speaks_for_itself(tmp_path):
    """Both have the same bad input: its own line, which it has printed, is the only one."""
    assert launch(HERE, program(tmp_path, "sys.exit(2)")) == 2


def test_other_machines_are_started_over_ssh(tmp_path, monkeypatch):
    """A program of that name runs the line in a shell of its own, as the other machine would."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    said = shlex.quote(str(tmp_path / "ssh"))
    ssh.write_text(f'#!/bin/sh\necho "$@" > {said}\nfor line; do :; done\ncd /\nexec sh -c "$line"\n')
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    text = "open(f'of {number}', 'w').write(config['cluster']['worker'][1])"
    assert launch((Host("me"), Host("it's")), program(tmp_path, text)) == 0
    assert (tmp_path / "of 1").read_text() == f"it's:{FIRST_PORT}"
    assert (tmp_path / "ssh").read_text().startswith("-tt -o BatchMode=yes ")
