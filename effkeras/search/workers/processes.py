"""N worker processes on this machine, started again when they die."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from effkeras.console import BAD_INPUT
from effkeras.errors import EffkerasError
from effkeras.files import make_folder
from effkeras.search.workers.child import Order
from effkeras.search.workers.crew import Post
from effkeras.search.workers.deaths import Deaths

# Seconds between two looks at the processes.
_PAUSE = 0.2


@dataclass(slots=True)
class _Slot:
    """One of the workers: its process, and how often that died."""

    number: int
    deaths: Deaths
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Processes:
    """So many worker processes, each with its share of the cores."""

    count: int
    _slots: list[_Slot] = field(default_factory=list, init=False)
    _order: bytes = field(init=False)
    _logs: Path = field(init=False)
    _post: Post = field(init=False)

    def start(self, post: Post) -> None:
        """Starts the processes."""
        self._post = post
        self._order = pickled(Order(post.job, post.limits))
        self._logs = make_folder(post.job.out / "logs")
        for number in range(1, self.count + 1):
            self._slots.append(_Slot(number, Deaths(self._finished())))
            self._launch(self._slots[-1])

    def step(self) -> bool:
        """Waits a moment and starts what has died again; False when all work is done.

        Raises EffkerasError when the processes cannot work at all.
        """
        time.sleep(_PAUSE)
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._ended(slot, slot.process.returncode)
        return any(slot.process is not None for slot in self._slots) or self._rescue()

    def close(self) -> None:
        """Ends all processes; what they were evaluating is run again next time."""
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.kill()
        for process in running:
            process.wait()
            _close_pipe(process)
        self._slots.clear()

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    def _launch(self, slot: _Slot) -> None:
        with self.log(slot.number).open("ab") as log:
            slot.process = subprocess.Popen(
                [sys.executable, "-m", "effkeras.search.workers.child"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment(self.count),
                pass_fds=[handle.fileno() for handle in self._post.keep],
                start_new_session=True,  # Ctrl-C is the search's to handle
            )
        with contextlib.suppress(BrokenPipeError):  # it died at once: seen at the next step
            pipe = slot.process.stdin
            assert pipe is not None
            pipe.write(self._order)
            pipe.flush()

    def log(self, number: int) -> Path:
        """What a worker, from 1, has printed."""
        return self._logs / f"worker-{number}.log"

    def _ended(self, slot: _Slot, code: int) -> None:
        if slot.process is not None:
            _close_pipe(slot.process)
        slot.process = None
        if code == 0:
            return
        if slot.deaths.are_too_many(self._finished()) or code == BAD_INPUT:
            why = _last_line(self.log(slot.number)).removeprefix("error: ")
            raise EffkerasError(f"the worker processes cannot work: {why} (see {self.log(slot.number)})")
        self._launch(slot)

    def _rescue(self) -> bool:
        """All have ended well; whether one must look after what a process left that died at the very end."""
        trials = self._post.ledger.trials()
        is_over = all(trial.is_finished for trial in trials) or self._post.ledger.gives_up(trials)
        if not is_over:
            self._launch(self._slots[0])
        return not is_over

    def _finished(self) -> int:
        return sum(trial.is_finished for trial in self._post.ledger.trials())


def pickled(order: Order) -> bytes:
    """An order as it travels to another process; EffkerasError when something in it cannot."""
    try:
        return pickle.dumps(order)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EffkerasError(f"the search cannot be sent to its workers: {error}") from error


def environment(workers: int) -> dict[str, str]:
    """The parent's, with its import path, and a share of the cores for numeric libraries."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    shares = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), threads)
    shares |= {
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return shares | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.close()


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")
