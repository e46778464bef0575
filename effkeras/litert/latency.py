"""Latency of a .tflite: a distribution, together with the kernels, threads and delegation behind it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from effkeras.litert.runner import delegation, make_interpreter, read_flatbuffer
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.measurements import Delegation, Latency


@dataclass(frozen=True, slots=True)
class InterpreterOptions:
    """How an interpreter runs a graph: by XNNPACK or the plain kernels, and on how many threads."""

    xnnpack: bool
    threads: int

    @property
    def delegate(self) -> str:
        """The name on the command line."""
        return "xnnpack" if self.xnnpack else "plain"

    @property
    def kernels(self) -> str:
        """The name of the kernels."""
        return "XNNPACK" if self.xnnpack else "plain"


@dataclass(frozen=True, slots=True)
class Plan:
    """The number of timed runs of each file, and of untimed warm-up runs before them."""

    runs: int = 50
    warmup: int = 10

    def check(self, threads: Iterable[int]) -> None:
        """Raises EffkerasError for fewer than 1 run or thread, or a negative warm-up."""
        if self.runs < 1 or self.warmup < 0 or any(number < 1 for number in threads):
            raise EffkerasError("timing needs at least 1 run and 1 thread, and no negative warm-up")


class Session(Protocol):
    """A loaded file whose input is set; `run` is timed."""

    def run(self) -> float | None:
        """One inference; the result is ready when this returns.

        It may return the milliseconds, if it measures them closer to the network than its caller can.
        """

    def delegation(self) -> Delegation:
        """How much of the graph the delegate runs."""


@dataclass(frozen=True, eq=False, slots=True)
class InterpreterSession:
    """An interpreter with its tensors allocated and its input set."""

    interpreter: Any
    flatbuffer: bytes

    @classmethod
    def of(cls, interpreter: Any, flatbuffer: bytes) -> InterpreterSession:
        """Sets all inputs to `random_image`."""
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], random_image(detail["shape"], detail["dtype"]))
        return cls(interpreter, flatbuffer)

    def run(self) -> None:
        """One inference; the interpreter returns when the outputs are ready."""
        self.interpreter.invoke()

    def delegation(self) -> Delegation:
        """How much of the graph the interpreter has delegated."""
        return delegation(self.interpreter, self.flatbuffer)


def measure(
    flatbuffer: bytes | Path, options: Sequence[InterpreterOptions], runs: int = 50, warmup: int = 10
) -> list[Latency]:
    """Times one .tflite with several options; see `measure_all`.

    Raises EffkerasError for a missing or corrupt file, or for fewer than 1 run.
    """
    content = flatbuffer if isinstance(flatbuffer, bytes) else read_flatbuffer(flatbuffer)
    return measure_all([(content, one) for one in options], Plan(runs, warmup))


def measure_all(
    jobs: Sequence[tuple[bytes, InterpreterOptions]], plan: Plan, title: str = "timing"
) -> list[Latency]:
    """Times .tflite files on this machine's CPU, one inference of each in turn; see `rounds`.

    Args:
        jobs: file contents, each with its options.
        plan: how many rounds.
        title: the title of the progress bar.
    """
    plan.check(options.threads for _, options in jobs)
    sessions = [_open(content, options) for content, options in jobs]
    times = rounds(sessions, plan, title)
    return [
        Latency(
            options.delegate,
            options.kernels,
            options.threads,
            plan.runs,
            plan.warmup,
            *distribution(times[:, position]),
            sessions[position].delegation(),
        )
        for position, (_, options) in enumerate(jobs)
    ]


def rounds(sessions: Sequence[Session], plan: Plan, title: str) -> np.ndarray:
    """Milliseconds (runs, sessions): every round runs each session once; warm-up rounds are left out.

    All sessions run in this process in turn, so that other load on the machine affects all alike. The input
    is one fixed random image; setting it is not timed.
    """
    number = plan.warmup + plan.runs if sessions else 0
    times = [[_milliseconds(session) for session in sessions] for _ in track(range(number), title)]
    return np.array(times[plan.warmup :]).reshape(plan.runs if sessions else 0, len(sessions))


def distribution(times: np.ndarray) -> tuple[float, float, float, float]:
    """Minimum, mean, median and 95th percentile of the times, in milliseconds (runs,)."""
    return (
        float(times.min()),
        float(times.mean()),
        float(np.median(times)),
        float(np.percentile(times, 95)),
    )


def random_image(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """A fixed random image in the number format of an input; all delegates are timed with it."""
    pixels = np.random.default_rng(0).integers(0, 256, tuple(shape))
    return (pixels - 128 if np.dtype(dtype) == np.int8 else pixels).astype(dtype)


def _open(content: bytes, options: InterpreterOptions) -> InterpreterSession:
    interpreter = make_interpreter(content, threads=options.threads, xnnpack=options.xnnpack)
    return InterpreterSession.of(interpreter, content)


def _milliseconds(session: Session) -> float:
    start = time.perf_counter()
    own = session.run()
    return (time.perf_counter() - start) * 1e3 if own is None else own
