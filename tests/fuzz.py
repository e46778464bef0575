"""`make fuzz`: thousands of damaged copies of a small .tflite through everything that reads one.

Each must be read or refused with an EffkerasError, within seconds and without growing memory.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from support.mutations import mutations, outcome

from effkeras.litert import flatbuffer, rewriting
from effkeras.litert.fake_quants import relus_as_requantization, stored_kernels, strip_fake_quants
from effkeras.litert.flatbuffer import interface
from effkeras.litert.runner import definition_of
from effkeras.support.console import track
from export import metadata
from export.inspect import show as show_inspected
from export.inspection import inspect, plain

LONGEST = 10  # seconds of CPU time for one check of one file: a busy machine is no hang
SHOWN = 50  # failures
SPARE = 1 << 30  # bytes of memory beyond what is in use at the start


def checks(original: bytes) -> dict[str, Callable[[bytes], object]]:
    """All that reads a .tflite, by name."""
    return {
        "inspect": _inspected,
        "metadata": metadata.read,
        "metadata: put back into": lambda model: metadata.restore(model, original),
        "metadata: put back from": lambda model: metadata.restore(original, model),
        "definition": definition_of,
        "interface": interface,
        "attach": lambda model: rewriting.attach(model, "name", b"payload"),
        "constants": _all_constants,
        "other constants": _same_constants,
        "uint8 edges": rewriting.with_uint8_io,
        "without softmax": rewriting.without_final_activation,
        "fake quantization": strip_fake_quants,
        "kernels": stored_kernels,
        "ReLUs": relus_as_requantization,
        **_preflight_checks(),
    }


def _inspected(model: bytes) -> object:
    found = inspect(model)
    with contextlib.redirect_stdout(io.StringIO()):
        show_inspected("a file", found)
    return json.dumps(plain(found), allow_nan=False)


def _all_constants(model: bytes) -> object:
    return flatbuffer.real_constants(model, _constant_indices(model))


def _same_constants(model: bytes) -> object:
    indices = _constant_indices(model)[:1]
    tensors = {tensor.index: tensor for op in flatbuffer.operators(model) for tensor in op.inputs}
    values = {index: np.zeros(tensors[index].shape, tensors[index].dtype) for index in indices}
    return rewriting.with_constants(model, values)


def _constant_indices(model: bytes) -> list[int]:
    graph = flatbuffer.operators(model)
    numbers = ("float32", "int8")
    found = {t.index for op in graph for t in op.inputs if t.is_constant and t.dtype in numbers}
    return sorted(found)


def _preflight_checks() -> dict[str, Callable[[bytes], object]]:
    try:
        from export.preflight import check_for
    except ImportError:
        return {}
    from export.preflight.__main__ import show

    def judged(model: bytes, target: str) -> object:
        found = check_for(model, target)
        with contextlib.redirect_stdout(io.StringIO()):
            show("a file", found)
        return found

    return {
        f"pre-flight {target}": lambda model, target=target: judged(model, target)
        for target in ("edgetpu", "gpu")
    }


def fuzz(model: bytes, count: int, seed: int) -> tuple[Counter, list[str]]:
    """How the checks ended, by name and outcome, and every failure."""
    ends: Counter = Counter()
    failures = []
    for name, damaged in track(mutations(model, count, seed), "fuzzing", total=count):
        for check, run in checks(model).items():
            try:
                with _limited():
                    ends[check, outcome(run, damaged)] += 1
            except Exception as error:
                ends[check, "FAILED"] += 1
                failures.append(f"{name}: {check}: {type(error).__name__}: {error}")
    return ends, failures


@contextmanager
def _limited():
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_long(*_):
    raise TimeoutError(f"took more than {LONGEST} s of CPU time")


def main() -> int:
    """Fuzzes a file; 1 when anything but an EffkerasError came out."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--model", type=Path, help="a .tflite; default: a tiny one of ours")
    chosen = options.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGPROF, _too_long)
    model = chosen.model.read_bytes() if chosen.model else _small_model()
    for run in checks(model).values():
        outcome(run, model)  # loads everything, before memory is limited
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, resource.RLIM_INFINITY))
    ends, failures = fuzz(model, chosen.count, chosen.seed)
    for (check, end), times in sorted(ends.items()):
        print(f"{check:<26} {end:<8} {times:>7,}")
    print(*failures[:SHOWN], sep="\n")
    print(f"{chosen.count:,} damaged copies of {len(model):,} bytes: {len(failures)} failures")
    return 1 if failures else 0


def _small_model() -> bytes:
    from support.small_tflite import small_tflite

    return small_tflite()


if __name__ == "__main__":
    sys.exit(main())
