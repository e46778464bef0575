"""Worker processes on this machine, restarted when they die.

Each runs `python -m effkeras.search.trials.processes` and reads its pickled order from stdin, which stays
open. When stdin closes, the search's process has ended, and the worker ends too. Its output goes to its log.
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
from effkeras.support.ending import BAD_INPUT
from effkeras.support.errors import EffkerasError, in_one_line
from effkeras.support.files import make_folder

# Seconds between two checks of the processes.
_PAUSE = 0.2


@dataclass(slots=True)
class _Slot:
    """One worker: its process, and how often it died."""

    number: int
    deaths: DeathCount
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Processes:
    """`count` worker processes, each with an equal share of the cores."""

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
        """Waits a moment and restarts dead processes; False when all work is done.

        Raises EffkerasError when the processes keep dying or cannot use their order.
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
        """The ids of the running processes."""
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
                start_new_session=True,  # only the search's process handles Ctrl-C
            )
        with contextlib.suppress(BrokenPipeError):  # it died at once; the next `step` handles it
            pipe = slot.process.stdin
            assert pipe is not None
            pipe.write(self._order)
            pipe.flush()

    def log(self, number: int) -> Path:
        """The log file of worker `number`, from 1."""
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
        """Restarts one worker if a trial is unfinished after all workers ended; returns whether it did."""
        trials = self._assignment.ledger.trials()
        is_over = all(trial.is_finished for trial in trials) or self._assignment.ledger.gives_up(trials)
        if not is_over:
            self._launch(self._slots[0])
        return not is_over

    def _finished(self) -> int:
        return sum(trial.is_finished for trial in self._assignment.ledger.trials())


def pickle_order(order: WorkerOrder) -> bytes:
    """Pickles an order for another process; raises EffkerasError when it cannot be pickled."""
    try:
        return pickle.dumps(order)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EffkerasError(f"the search cannot be sent to its workers: {error}") from error


def environment(workers: int) -> dict[str, str]:
    """The parent's environment, its import path, and a share of the cores for numeric libraries."""
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
    """The input of a worker process."""

    job: SearchJob
    limits: Limits


def main() -> int:
    """Evaluates until no candidate is left; returns 2, with the reason in the log, for an unusable order."""
    order: WorkerOrder = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        carry_out(order)
    except EffkerasError as error:
        print(f"error: {in_one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    return 0


def carry_out(order: WorkerOrder) -> None:
    """Evaluates candidates until none is left."""
    evaluator = order.job.evaluation()
    with claimed(locks_of(order.job.out), order.limits.session) as owner:
        work(open_ledger(order.job, order.limits), evaluator, order.job.objective, owner)


def _end_with_parent() -> None:
    # os.read, not sys.stdin: a thread must not hold the lock of sys.stdin when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)  # skips the exit of native libraries, which is slow and sometimes crashes
