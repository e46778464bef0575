"""How long an artifact takes, as a distribution and with what ran it; never a bare figure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.litert.runner import Delegation, delegation, make_interpreter, read_flatbuffer
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs the graph: XNNPACK or the plain kernels, on so many threads."""

    xnnpack: bool
    threads: int

    @property
    def kernels(self) -> str:
        """The name of the kernels."""
        return "XNNPACK" if self.xnnpack else "plain"


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution of single inferences, in milliseconds, and how much of the graph XNNPACK ran."""

    setting: Setting
    runs: int
    warmup: int
    min_ms: float
    median_ms: float
    p95_ms: float
    mean_ms: float
    delegated: Delegation

    def to_row(self) -> dict[str, Any]:
        """The measurement as a plain record."""
        return {
            "kernels": self.setting.kernels,
            "threads": self.setting.threads,
            "runs": self.runs,
            "warmup": self.warmup,
            "min_ms": round(self.min_ms, 3),
            "median_ms": round(self.median_ms, 3),
            "p95_ms": round(self.p95_ms, 3),
            "mean_ms": round(self.mean_ms, 3),
            "total_ops": self.delegated.total_ops,
            "delegated_ops": self.delegated.delegated_ops,
            "partitions": self.delegated.partitions,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Timed runs of each setting, and untimed ones before them."""

    runs: int = 50
    warmup: int = 10


def measure(
    flatbuffer: bytes | Path, settings: Sequence[Setting], runs: int = 50, warmup: int = 10
) -> list[Latency]:
    """Times one artifact under several settings; see `measure_all`.

    Raises EffkerasError for a missing or corrupt file, and for fewer than 1 run.
    """
    content = flatbuffer if isinstance(flatbuffer, bytes) else read_flatbuffer(flatbuffer)
    return measure_all([(content, setting) for setting in settings], Plan(runs, warmup))


def measure_all(jobs: Sequence[tuple[bytes, Setting]], plan: Plan, title: str = "timing") -> list[Latency]:
    """Times artifacts under settings, one inference of each in turn.

    All interpreters live in this process and every round runs each of them once, so that whatever else
    the machine does hits all alike. Input is one fixed random image; setting it is not timed.

    Args:
        jobs: file contents, each with a setting.
        plan: how many rounds.
        title: what the progress bar says.
    """
    if plan.runs < 1 or plan.warmup < 0 or any(setting.threads < 1 for _, setting in jobs):
        raise EffkerasError("timing needs at least 1 run and 1 thread, and no negative warm-up")
    interpreters = [_ready(content, setting) for content, setting in jobs]
    rounds = _rounds(interpreters, track(range(plan.warmup + plan.runs), title))
    times = np.array(rounds[plan.warmup :])
    return [
        _latency(setting, times[:, position], plan, delegation(interpreters[position], content))
        for position, (content, setting) in enumerate(jobs)
    ]


def _ready(content: bytes, setting: Setting) -> Any:
    interpreter = make_interpreter(content, threads=setting.threads, xnnpack=setting.xnnpack)
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        pixels = random.integers(0, 256, detail["shape"])
        values = pixels - 128 if detail["dtype"] == np.int8 else pixels
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    return interpreter


def _rounds(interpreters: Sequence[Any], rounds: Iterable[int]) -> list[list[float]]:
    return [[_milliseconds(interpreter) for interpreter in interpreters] for _ in rounds]


def _milliseconds(interpreter: Any) -> float:
    start = time.perf_counter()
    interpreter.invoke()
    return (time.perf_counter() - start) * 1e3


def _latency(setting: Setting, times: np.ndarray, plan: Plan, delegated: Delegation) -> Latency:
    return Latency(
        setting,
        plan.runs,
        plan.warmup,
        float(times.min()),
        float(np.median(times)),
        float(np.percentile(times, 95)),
        float(times.mean()),
        delegated,
    )
