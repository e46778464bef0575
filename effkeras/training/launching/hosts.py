"""`--workers HOSTFILE`: a worker for each line of a file, here as a process, elsewhere over ssh."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from effkeras.support.console import note
from effkeras.support.ending import BAD_INPUT
from effkeras.support.errors import EffkerasError
from effkeras.training.launching.worker import (
    Launch,
    environment,
    free_ports,
    how_it_ended,
    last_line,
    local_names,
    tail,
    variables,
)
from effkeras.training.strategies.cluster import Cluster

# The port of the first worker of another machine, where the file states none.
FIRST_PORT = 20415
_PAUSE = 0.2  # seconds between two looks at the processes
_PATIENCE = 10.0  # seconds that a process gets to end by itself
# -tt: the remote process ends with the connection. BatchMode: no question for a password that nobody sees.
_SSH = ("ssh", "-tt", "-o", "BatchMode=yes")


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, and the port of a worker on it; 0 for any."""

    name: str
    port: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it is this machine."""
        return self.name in local_names()


def read_hosts(path: Path) -> tuple[Host, ...]:
    """The hosts of a file: HOST or HOST:PORT on each line, the chief's first; # starts a comment.

    Raises EffkerasError for a file that cannot be read, other lines, or fewer than two of them.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(
            f"--workers {path}: give a text file with HOST or HOST:PORT on each line (with --ray, a number)"
        ) from error
    hosts = tuple(
        _host(text, f"{path}:{number}")
        for number, line in enumerate(lines, 1)
        if (text := line.partition("#")[0].strip())
    )
    if len(hosts) < 2:
        raise EffkerasError(f"{path} names {len(hosts)} hosts; give a line for each of two or more workers")
    return hosts


def _host(text: str, where: str) -> Host:
    name, colon, port = text.rpartition(":")
    if not colon:
        name, port = text, "0"
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535
    if not name or name.startswith("-") or len(text.split()) > 1 or not is_port:
        raise EffkerasError(f"{where}: {text!r} is not HOST or HOST:PORT")
    return Host(name, int(port))


def addresses(hosts: tuple[Host, ...]) -> tuple[str, ...]:
    """HOST:PORT of each worker.

    Raises EffkerasError where others would have to reach a machine as "localhost".
    """
    names = {host.name for host in hosts}
    loops = names & {"localhost", "127.0.0.1", "::1"}
    if loops and not all(host.is_here for host in hosts):
        raise EffkerasError(
            f"other machines cannot reach this one as {min(loops)}: give its name in the file of hosts"
        )
    own, count = iter(free_ports(len(hosts))), Counter[str]()
    found = []
    for host in hosts:
        default = next(own) if host.is_here else FIRST_PORT + count[host.name]
        count[host.name] += 1
        found.append(f"{host.name}:{host.port or default}")
    return tuple(found)


def launch(hosts: tuple[Host, ...], training: Launch) -> int:
    """Runs a training on all hosts; returns the chief's exit code when all have ended.

    The chief's output is that of this process; the others write to logs in the run folder.

    Raises:
        EffkerasError: a worker died; the others are ended.
    """
    places = addresses(hosts)
    note(f"{len(hosts)} workers: {', '.join(places)}; what the others print is in {training.out / 'logs'}")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, host in enumerate(hosts):
            processes.append(_started(host, Cluster(places, number), training, hosts))
        return _watched(processes, places, training)
    finally:
        _end(processes)


def _started(
    host: Host, cluster: Cluster, training: Launch, hosts: tuple[Host, ...]
) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as files:
        log = None if cluster.number == 0 else files.enter_context(training.log(cluster.number).open("wb"))
        own = environment(cluster, sum(one.is_here for one in hosts)) if host.is_here else None
        command = training.command if host.is_here else [*_SSH, host.name, _remote(training, cluster)]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                env=own,
                start_new_session=True,  # only this process handles Ctrl-C
            )
        except OSError as error:
            raise EffkerasError(f"cannot start {command[0]}: {error.strerror}") from error


def _remote(training: Launch, cluster: Cluster) -> str:
    """The line for the shell of another machine, which has the same folders."""
    given = [f"{name}={value}" for name, value in variables(cluster).items()]
    return f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(['env', *given, *training.command])}"


def _watched(processes: list[subprocess.Popen[bytes]], places: tuple[str, ...], training: Launch) -> int:
    while True:
        codes = [process.poll() for process in processes]
        failed = [number for number, code in enumerate(codes) if code]
        if failed:
            return _failed(processes, failed[0], places, training)
        if all(code == 0 for code in codes):
            return 0
        time.sleep(_PAUSE)


def _failed(
    processes: list[subprocess.Popen[bytes]], number: int, places: tuple[str, ...], training: Launch
) -> int:
    """The exit code of a chief that has said what is wrong; else EffkerasError about worker `number`."""
    code = processes[number].returncode
    if number and code == BAD_INPUT:  # the chief has the same input, and may say it better
        with contextlib.suppress(subprocess.TimeoutExpired):
            if processes[0].wait(_PATIENCE) == BAD_INPUT:
                return BAD_INPUT
        why = last_line(tail(training.log(number)))
        raise EffkerasError(f"worker {number} at {places[number]}: {why}")
    if number == 0 and code > 0:
        return code
    raise EffkerasError(
        f"worker {number} at {places[number]} {how_it_ended(code)}, and the training ended with it"
        + (f" (see {training.log(number)})" if number else "")
        + "; run the same command again to go on from the last checkpoint"
    )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.kill()
    for process in running:
        process.wait()
