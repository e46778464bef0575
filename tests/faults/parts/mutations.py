"""Damaged copies of every kind of file that effkeras reads: each is read or refused in one line.

A process reads one copy after the other, with limits on time and memory; when it dies, the copy counts as a
fault, and another process goes on. 10,000 copies over all readers take about half an hour.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from multiprocessing.connection import Connection
from pathlib import Path

from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from faults.campaign import Out
from faults.damage import damaged
from faults.readers import READERS, Reader

SUMMARY = "10,000 damaged copies of every kind of file that is read"
COUNT = 10_000
SEED = 0
LONGEST = 10  # seconds of CPU time for one copy: a busy machine is no hang
STUCK = 180  # seconds without an answer, for native code that Python cannot interrupt
SPARE = 2 << 30  # bytes of memory beyond what is in use before the first copy


def run(out: Out) -> None:
    """Damages files of each reader, several readers at once."""
    names = sorted(READERS)
    cases = [(names[number % len(names)], number // len(names)) for number in range(out.count or COUNT)]
    out.planned = len(cases)
    left = [case for case in cases if not out.has(_name(case))]
    adding = threading.Lock()
    with tempfile.TemporaryDirectory() as folder, futures.ThreadPoolExecutor(out.jobs) as pool:

        def read_all(name: str) -> None:
            for case, end, why in _outcomes([case for case in left if case[0] == name], Path(folder)):
                with adding:
                    out.add(_name(case), end, why)
                if out.is_over:
                    break

        for _ in track(pool.map(read_all, names), "damaged files", total=len(names)):
            pass
        strays = sorted(_below(Path(folder)))
        if strays:
            out.add(f"{SEED} writes", "outside", ", ".join(strays))


def _name(case: tuple[str, int]) -> str:
    return f"{case[0]} {SEED}-{case[1]}"


def _below(folder: Path) -> Iterator[str]:
    """The files beside the folder of the process's own work, where nothing may appear."""
    return (str(path) for path in folder.rglob("*") if "work" not in path.relative_to(folder).parts)


def _outcomes(cases: list[tuple[str, int]], folder: Path) -> Iterator[tuple[tuple[str, int], str, str]]:
    """How each case ended."""
    waiting = list(cases)
    while waiting:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, waiting, folder))
        process.start()
        theirs.close()
        try:
            while waiting:
                if not ours.poll(STUCK):
                    process.kill()
                    yield waiting.pop(0), "hung", f"no answer within {STUCK} s"
                    break
                end, why = ours.recv()
                yield waiting.pop(0), end, why
        except EOFError:
            process.join()
            yield waiting.pop(0), "traceback", f"the process ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()


def _serve(answers: Connection, cases: list[tuple[str, int]], folder: Path) -> None:
    """Carries out cases of one reader in a process of its own."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    home = _made(folder / "work" / "home")  # for the settings and caches of libraries
    os.environ |= {"HOME": str(home), "EFFKERAS_CACHE": str(folder / "work" / "cache")}
    reader = READERS[cases[0][0]]
    with tempfile.TemporaryDirectory(dir=_made(folder / "work")) as scratch:
        work = Path(scratch)
        os.chdir(work)
        file = reader.make(_made(work / "good"))
        reader.read(file)  # loads everything, before memory is limited
        limit_memory()
        signal.signal(signal.SIGPROF, _too_long)
        good = file.read_bytes()
        for name, number in cases:
            answers.send(outcome(reader, file, damaged(good, reader.layers, f"{SEED}-{name}-{number}")))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def limit_memory() -> None:
    """Allows this process no more memory than it has and `SPARE`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, resource.RLIM_INFINITY))


def outcome(reader: Reader, file: Path, content: bytes) -> tuple[str, str]:
    """How the reading of damaged content ends, and why if in a fault."""
    with _in_place(file, content):
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            reader.read(file)
        except EffkerasError as error:
            text = str(error)
            return (
                ("refused", "") if "\n" not in text and len(text) < 5000 else ("traceback", f"long: {text}")
            )
        except TimeoutError as error:
            return "hung", str(error)
        except BaseException as error:
            return "traceback", f"{type(error).__name__}: {error}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return "read", ""


@contextlib.contextmanager
def _in_place(file: Path, content: bytes) -> Iterator[None]:
    """The damaged content under the file's own name, beside the files that belong to it."""
    good = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_bytes(good)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"took more than {LONGEST} s of CPU time")
