"""Which pictures ranges are measured on, and the ranges themselves."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.console import note
from effkeras.data.pictures import read_picture, tolerated
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.definition import InputSpec
from effkeras.errors import EffkerasError
from effkeras.preprocess import network_input
from effkeras.quiet import quiet

Record = DetectionRecord | ClassificationRecord
Ranges = dict[str, dict[str, np.ndarray]]


def representative(data: LabelledData, count: int, seed: int = 0) -> list[Record]:
    """Up to `count` records that show all classes evenly.

    Classes take turns, each giving a picture of its own not yet chosen; pictures without any class come
    last. The same data, count and seed give the same records in the same order. Raises EffkerasError
    when there are no pictures or `count` is below 1.
    """
    if count < 1:
        raise EffkerasError(f"calibration needs at least 1 picture, not {count}; raise --samples")
    if not data.records:
        raise EffkerasError(f"{data.root}: the split {data.split!r} has no pictures to calibrate with")
    order = list(range(len(data.records)))
    random.Random(seed).shuffle(order)
    chosen = list(dict.fromkeys(_by_turns(_queues(data, order))))[:count]
    return [data.records[index] for index in chosen]


def calibration_pixels(records: Iterable[Record], spec: InputSpec) -> Iterator[np.ndarray]:
    """Each record's picture as the network sees it: float32 (1, H, W, 3), pixels 0..255.

    Pictures that cannot be read are left out with a note. Raises EffkerasError when they are more
    than one in a hundred (one is always tolerated when others remain).
    """
    listed = list(records)
    bad = 0
    for record in listed:
        try:
            picture = read_picture(record.path)
        except EffkerasError as error:
            bad += 1
            if not tolerated(bad, len(listed)) and not (bad == 1 and len(listed) > 1):
                raise
            note(f"skipped: {error}")
            continue
        yield network_input(picture, spec)[None]


@dataclass(frozen=True, slots=True)
class Extremes:
    """The smallest and largest value that a tensor took."""

    low: float
    high: float

    def joined(self, other: Extremes) -> Extremes:
        """The extremes of both."""
        return Extremes(min(self.low, other.low), max(self.high, other.high))


def measure_ranges(flatbuffer: bytes, inputs: Iterable[np.ndarray], threads: int = 2) -> Ranges:
    """Runs a float model on `inputs` and notes every activation's range, by tensor name.

    The range spans the extremes over all inputs, so the order of the pictures does not matter. The
    result has the form that ai-edge-quantizer takes as a calibration result.
    """
    interpreter = _observing_interpreter(flatbuffer, threads)
    (entry,) = interpreter.get_input_details()
    watched = _activations(interpreter, flatbuffer)
    found: dict[str, Extremes] = {}
    for pixels in inputs:
        interpreter.set_tensor(entry["index"], pixels)
        interpreter.invoke()
        for name, index in watched.items():
            now = _extremes(interpreter, index)
            found[name] = found[name].joined(now) if name in found else now
    if not found:
        raise EffkerasError("none of the calibration pictures could be read; check --data")
    return {name: as_range(extremes.low, extremes.high) for name, extremes in found.items()}


def as_range(low: float, high: float) -> dict[str, np.ndarray]:
    """A range as ai-edge-quantizer writes it."""
    return {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}


def _queues(data: LabelledData, order: list[int]) -> list[list[int]]:
    """Indices of pictures by class, in the given order; the last queue has those without a class."""
    by_class: dict[int, list[int]] = {}
    without: list[int] = []
    for index in order:
        classes = _classes(data.records[index])
        for label in classes:
            by_class.setdefault(label, []).append(index)
        if not classes:
            without.append(index)
    return [*(by_class[label] for label in sorted(by_class)), without]


def _by_turns(queues: list[list[int]]) -> Iterator[int]:
    *classes, without = queues
    seen: set[int] = set()
    pending = [iter(queue) for queue in classes]
    while pending:
        for queue in list(pending):
            fresh = next((index for index in queue if index not in seen), None)
            if fresh is None:
                pending.remove(queue)
                continue
            seen.add(fresh)
            yield fresh
    yield from without


def _classes(record: Record) -> list[int]:
    if isinstance(record, ClassificationRecord):
        return [record.label]
    return sorted({int(label) for label in record.classes})


def _observing_interpreter(flatbuffer: bytes, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter = Interpreter(
            model_content=flatbuffer,
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    return interpreter


def _activations(interpreter: Any, flatbuffer: bytes) -> dict[str, int]:
    from effkeras.litert.flatbuffer import operators

    edges = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    made = {tensor.name: tensor.index for op in operators(flatbuffer) for tensor in op.outputs}
    return {**edges, **made}


def _extremes(interpreter: Any, index: int) -> Extremes:
    # A view into the interpreter: it must be gone before the next invoke, as it is when this returns.
    values = interpreter.tensor(index)()
    return Extremes(float(values.min()), float(values.max()))
