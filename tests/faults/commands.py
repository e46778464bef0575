"""Tries a command with faults: what is there afterwards is whole, and the same again finishes the work."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path

from faults.campaign import Out
from faults.child import Fault, run, temporary_of

SEED = 0
STUCK = 900  # seconds until a command counts as hung, on a busy machine; they take seconds
LATEST = 1.1  # of the time that the whole command takes: the latest random moment
SIGNALS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


WELL = Fault()
LOADED = ("faults.loaded",)
_preloaded: list[tuple[str, ...]] = [()]
_ONE = (
    threading.Lock()
)  # for what multiprocessing lets one thread do at a time: start and ask after processes


class FaultError(Exception):
    """How a case ended: "lost", "corrupted", "hung", "traceback" or "outside"."""

    def __init__(self, end: str, why: str) -> None:
        super().__init__(why)
        self.end = end


@dataclass(frozen=True)
class Command:
    """A command that is tried.

    Args:
        arguments: of `effkeras`, given the inputs' folder and the output folder.
        same: raises AssertionError unless the second folder holds the result that the first has.
        change: changes a copy of the inputs, between a kill and the next run; None where nothing is compared.
        accept: the options with which the command goes on after that; () where it needs another folder.
        begin: fills the output folder before the command starts.
        repeats: whether the command may be given again after it has ended; else it is refused.
        preload: modules that all its processes are forked with.
    """

    name: str
    arguments: Callable[[Path, Path], list[str]]
    same: Callable[[Path, Path], None]
    change: Callable[[Path], None] | None = None
    accept: tuple[str, ...] = ()
    begin: Callable[[Path, Path], None] = lambda inputs, out: None
    repeats: bool = True
    preload: tuple[str, ...] = LOADED


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, and what it wrote on stderr."""

    code: int
    error: str

    def check(self, *codes: int) -> None:
        """Raises FaultError for a traceback or another exit code."""
        if "Traceback" in self.error:
            raise FaultError("traceback", self.error[-400:])
        if self.code not in codes:
            raise FaultError("lost", f"exit code {self.code}: {self.error[-300:]}")
        if self.code == 2 and not any(line.startswith("error: ") for line in self.error.splitlines()):
            raise FaultError("traceback", f"no line: {self.error[-300:]}")


class Lab:
    """Where a command is tried: its inputs, the result of a whole run, and processes that load quickly."""

    def __init__(self, command: Command, inputs: Path, work: Path, *, timed: bool = True) -> None:
        self.command, self.inputs, self.work = command, inputs, work
        self._context = forks(command.preload)
        if timed:
            self.finish(self.new(work / "first"))  # which also starts the server
        self.whole = self.new(work / "whole")
        begun = time.monotonic()
        self.finish(self.whole)
        self.seconds = time.monotonic() - begun
        self.points = (self.whole / "log.points").read_text().splitlines()
        self._check_whole(self.whole)

    def new(self, folder: Path) -> Path:
        """A folder to try the command in."""
        folder.mkdir(parents=True)
        temporary_of(folder).mkdir()
        self.command.begin(self.inputs, folder / "out")
        return folder

    def start(self, folder: Path, fault: Fault = WELL, inputs: Path | None = None, log: str = "log", more=()):
        """Starts the command."""
        arguments = [*self.command.arguments(inputs or self.inputs, folder / "out"), *more]
        process = self._context.Process(target=run, args=(arguments, fault, folder / log, self.work / "home"))
        with _ONE:
            process.start()
        return process

    def end(self, process, folder: Path, log: str = "log") -> Ended:
        """Waits for a command."""
        code = _code(process, STUCK)
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _code(process, STUCK)
            raise FaultError("hung", f"no end within {STUCK} s")
        outside, error = (
            file.read_text(errors="replace") if file.is_file() else ""
            for file in ((folder / log).with_suffix(f".{kind}") for kind in ("outside", "err"))
        )
        if outside:
            raise FaultError("outside", outside)
        return Ended(code, error)

    def finish(self, folder: Path, inputs: Path | None = None, more=()) -> None:
        """Runs the whole command."""
        self.end(self.start(folder, inputs=inputs, more=more), folder).check(0)

    # The kinds of faults: each runs the command in an empty folder, with the fault.

    def killed_at(self, folder: Path, number: int) -> None:
        """A kill at a write point."""
        self.end(self.start(folder, Fault("kill", number)), folder).check(-signal.SIGKILL, 0)

    def refused_at(self, folder: Path, number: int, kind: str) -> None:
        """A disk that is full or read-only from a write point on."""
        self.end(self.start(folder, Fault(kind, number)), folder).check(2, 0)
        if kind != "read-only":  # where nothing can be removed
            self._check_clean(folder)
            self._check_temporary(folder)

    def limited(self, folder: Path, limit: int) -> None:
        """Files that cannot grow beyond so many bytes, as on a full disk."""
        ended = self.end(self.start(folder, Fault(limit=limit)), folder)
        if len(ended.error.encode()) < limit:  # else what it said last is cut off, too
            ended.check(2, 0, 1)
        self._check_clean(folder)
        self._check_temporary(folder)

    def signalled(self, folder: Path, number: int, moment: float) -> None:
        """A signal at a moment, in seconds."""
        process = self.start(folder)
        if _code(process, moment) is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        ended = self.end(process, folder)
        if number == signal.SIGKILL:
            ended.check(-signal.SIGKILL, 0)
            return
        early = {-number} if not (folder / "log.err").is_file() or not ended.error else set()
        ended.check(SIGNALS[number], 0, *early)  # before the command has begun, the signal kills
        if not early:
            self._check_clean(folder)
            self._check_temporary(folder)

    def twice(self, folder: Path) -> None:
        """Two at once: one ends well, and the other too, or is told who works."""
        one, other = self.start(folder), self.start(folder, log="second")
        ends = [self.end(one, folder), self.end(other, folder, "second")]
        for ended in ends:
            ended.check(0, 2)
        if not any(ended.code == 0 for ended in ends):
            raise FaultError("lost", f"none of two worked: {ends[0].error[-200:]} {ends[1].error[-200:]}")

    def changed(self, folder: Path) -> None:
        """Inputs that change between a kill and the next run, which says so."""
        command = self.command
        assert command.change is not None
        inputs = shutil.copytree(self.inputs, folder / "inputs", symlinks=True)
        half = len(self.points) // 2
        self.end(self.start(folder, Fault("kill", half), inputs=inputs), folder).check(-signal.SIGKILL)
        command.change(inputs)
        self.end(self.start(folder, inputs=inputs), folder).check(2)
        if command.accept:
            self.end(self.start(folder, inputs=inputs, more=command.accept), folder).check(0)

    def after(self, folder: Path) -> None:
        """What is there after a fault is whole; the same command again finishes, and leaves nothing else."""
        self._check_whole(folder)
        if self.command.repeats or not (folder / "out").exists():
            self.finish(folder)
        else:
            self.end(self.start(folder), folder).check(2)
        self._check_whole(folder)
        try:
            self.command.same(self.whole / "out", folder / "out")
        except AssertionError as error:
            raise FaultError("lost", f"another result: {error}") from error
        self._check_clean(folder)

    def _check_whole(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.is_file() and not is_hidden:
                try:
                    check_file(path)
                except Exception as error:
                    raise FaultError("corrupted", f"{path.relative_to(folder)}: {error}") from error

    def _check_clean(self, folder: Path) -> None:
        hidden = [path.name for path in folder.rglob(".*")]
        left = [name for name in hidden if name.startswith(".effkeras") or name.endswith(".lock")]
        if left:
            raise FaultError("corrupted", f"left behind: {', '.join(left)}")

    def _check_temporary(self, folder: Path) -> None:
        left = [path.name for path in temporary_of(folder).iterdir()]
        if left:
            raise FaultError("corrupted", f"temporary files left behind: {', '.join(left)}")


def _code(process, seconds: float) -> int | None:
    """The exit code of a process that ends within so many seconds; else None."""
    connection.wait([process.sentinel], seconds)
    with _ONE:
        return process.exitcode


def forks(preload: tuple[str, ...]):
    """Where to start processes that have these modules already."""
    context = multiprocessing.get_context("forkserver")
    if _preloaded[0] != preload:
        forkserver._forkserver._stop()  # a server keeps what it was started with
        context.set_forkserver_preload([*preload])
        _preloaded[0] = preload
    return context


def check_file(path: Path) -> None:
    """Raises an exception if a file is not whole, by its kind."""
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        text = path.read_text()
        assert not text or text.endswith("\n")
        for line in text.splitlines():
            json.loads(line)
    elif path.suffix == ".toml":
        import tomllib

        tomllib.loads(path.read_text())
    elif path.suffix in (".keras", ".npz"):
        with zipfile.ZipFile(path) as content:
            assert content.testzip() is None
    elif path.suffix == ".tflite":
        from effkeras.litert.flatbuffer import interface

        interface(path.read_bytes())
    elif path.suffix in (".png", ".jpg"):
        from PIL import Image

        with Image.open(path) as image:
            image.load()
    elif path.name == "saved_model.pb":
        assert (path.parent / "variables" / "variables.index").is_file()
        assert path.stat().st_size


# A name, what runs the command with a fault, and whether the same command must finish the work afterwards.
Case = tuple[str, Callable[[Path], None], bool]


def tries(lab: Lab, kills: int, signals: int) -> Iterator[Case]:
    """All cases of a command."""
    for number, point in enumerate(lab.points, 1):
        yield f"kill {point} ({number})", lambda folder, n=number: lab.killed_at(folder, n), True
    for kind in ("full", "read-only"):
        for number in (
            0,
            *_few([n for n, name in enumerate(lab.points, 1) if not name.startswith("after")], 6),
        ):
            yield f"{kind} at {number}", lambda folder, n=number, k=kind: lab.refused_at(folder, n, k), True
    for limit in (1_000, 10_000, 100_000, 1_000_000):
        yield f"files below {limit}", lambda folder, most=limit: lab.limited(folder, most), True
    if lab.command.change is not None:
        yield "changed inputs", lab.changed, False
    for number in range(3):
        yield f"two at once {number}", lab.twice, True
    for number in range(signals):
        which = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[number % 3]
        moment = _moment(f"{which} {number}", lab)
        yield f"{which.name} {number}", lambda folder, w=which, m=moment: lab.signalled(folder, w, m), True
    for number in range(kills):
        moment = _moment(f"kill {number}", lab)
        yield f"kill {number}", lambda folder, m=moment: lab.signalled(folder, signal.SIGKILL, m), True


def _moment(name: str, lab: Lab) -> float:
    """A random moment, the same share of the whole time for the same name."""
    return random.Random(f"{SEED} {lab.command.name} {name}").uniform(0, LATEST) * lab.seconds


def _few(items: list[int], most: int) -> list[int]:
    return items[:: max(1, len(items) // most)][:most]


def try_commands(out: Out, commands: Sequence[Command], inputs: Path, kills: int, signals: int = 30) -> None:
    """Runs the cases of commands that have no row yet, `out.count` of them; all for 0.

    Commands have equal shares of the time, and their cases an order by chance, the same each time: what the
    time allows is a sample of all.
    `kills`, at write points and at random moments, and `signals` are shared among the commands.
    """
    each = len(commands)
    for place, command in enumerate(commands):
        if out.is_over:
            return
        now = time.monotonic()
        until = now + (out.until - now) / (each - place)
        with tempfile.TemporaryDirectory() as work:
            lab = Lab(command, inputs, Path(work), timed=not out.count)
            at_random = max(20, kills // each - len(lab.points))
            cases = list(tries(lab, at_random, signals // each))
            out.planned += len(cases)
            random.Random(SEED).shuffle(cases)
            if out.count:
                cases = cases[: -(-out.count // each)]
            cases = [case for case in cases if not out.has(f"{command.name}: {case[0]}")]
            _try_cases(out, lab, cases, until)


def _try_cases(out: Out, lab: Lab, cases: Sequence[Case], until: float) -> None:
    tasks = {f"{lab.command.name}: {name}": (lab, fault, goes_on) for name, fault, goes_on in cases}
    out.run(lab.command.name, _tried, tasks, until)


def _tried(lab: Lab, fault: Callable[[Path], None], goes_on: bool) -> tuple[str, str]:
    """How a case ended, and why if in a fault."""
    with tempfile.TemporaryDirectory(dir=lab.work, ignore_cleanup_errors=True) as work:
        folder = lab.new(Path(work, "case"))
        try:
            fault(folder)
            if goes_on:
                lab.after(folder)
        except FaultError as error:
            return error.end, str(error)
    return "passed", ""


def same_files(one: Path, other: Path) -> None:
    """Both folders hold the same files with the same content."""
    first, second = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (one, other)
    )
    assert first.keys() == second.keys(), first.keys() ^ second.keys()
    for name, content in first.items():
        assert content == second[name], name


def same_rows(one: Path, other: Path, *facts: str) -> None:
    """Both files of rows have the same values of these keys, row by row."""
    first, second = (
        [[row.get(fact) for fact in facts] for row in map(json.loads, file.read_text().splitlines())]
        for file in (one, other)
    )
    assert first == second, f"{first} {second}"


def change_label(data: Path) -> None:
    """Gives one image of class folders another class."""
    first, second, *_ = sorted(one for one in (data / "train").iterdir() if one.is_dir())
    image = next(iter(sorted(first.iterdir())))
    image.rename(second / f"moved-{image.name}")


def prepare(arguments: list[str], folder: Path) -> None:
    """Runs a command that makes inputs."""
    process = forks(LOADED).Process(target=run, args=(arguments, WELL, folder / "log", folder / "home"))
    process.start()
    process.join()
    assert process.exitcode == 0, (folder / "log.err").read_text()
