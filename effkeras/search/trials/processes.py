"""Worker processes on this machine, started again when they die.

Each runs `python -m effkeras.search.trials.processes`. Its order comes pickled on stdin, which stays open:
when it closes, the search's process is gone, and the worker ends too. What it prints goes to its log.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from effkeras.search.trials.job import SearchJob, locks_of, open_ledger
from effkeras.search.trials.ledger import Limits
from effkeras.search.trials.locks import claimed
from effkeras.search.trials.workers import Assignment, DeathCount, work
from effkeras.support.console import BAD_INPUT
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder

# Seconds between two looks at the processes.
_PAUSE = 0.2


@dataclass(slots=True)
class _Slot:
    """One of the workers: its process, and how often that died."""

    number: int
    deaths: DeathCount
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Processes:
    """So many worker processes, each with its share of the cores."""

    count: int
    _slots: list[_Slot] = field(default_factory=list, init=False)
    _order: bytes = field(init=False)
    _logs: Path = field(init=False)
    _assignment: Assignment = field(init=False)

    def start(self, assignment: Assignment) -> None:
        """Starts the processes."""
        self._assignment = assignment
        self._order = pickle_order(WorkerOrder(assignment.job, assignment.limits))
        self._logs = make_folder(assignment.job.out / "logs")
        for number in range(1, self.count + 1):
            self._slots.append(_Slot(number, DeathCount(self._finished())))
            self._launch(self._slots[-1])

    def step(self) -> bool:
        """Waits a moment and starts what has died again; False when all work is done.

        Raises EffkerasError when the processes cannot work at all.
        """
        time.sleep(_PAUSE)
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._ended(slot, slot.process.returncode)
        return any(slot.process is not None for slot in self._slots) or self._restart_for_orphans()

    def close(self) -> None:
        """Ends all processes; the next run evaluates their candidates again."""
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
                [sys.executable, "-m", "effkeras.search.trials.processes"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment(self.count),
                pass_fds=[handle.fileno() for handle in self._assignment.keep],
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

    def _restart_for_orphans(self) -> bool:
        """All ended well; returns whether one must run again for a process that died at the very end."""
        trials = self._assignment.ledger.trials()
        is_over = all(trial.is_finished for trial in trials) or self._assignment.ledger.gives_up(trials)
        if not is_over:
            self._launch(self._slots[0])
        return not is_over

    def _finished(self) -> int:
        return sum(trial.is_finished for trial in self._assignment.ledger.trials())


def pickle_order(order: WorkerOrder) -> bytes:
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


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker process works for."""

    job: SearchJob
    limits: Limits


def main() -> int:
    """Works until no candidate is left; 2 when the order cannot be carried out, and the log says why."""
    order: WorkerOrder = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        carry_out(order)
    except EffkerasError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def carry_out(order: WorkerOrder) -> None:
    """Works until no candidate is left."""
    evaluator = order.job.evaluation()
    with claimed(locks_of(order.job.out), order.limits.session) as owner:
        work(open_ledger(order.job, order.limits), evaluator, order.job.objective, owner)


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)  # native libraries are slow to end, and sometimes crash
