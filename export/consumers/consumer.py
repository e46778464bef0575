"""The record that describes a consumer (a program that artifacts are exported for), and the registry.

To add a consumer, add a module to this package that calls `add_consumer`; nothing else changes. `--help`
imports these modules, so they import code that works on artifacts only inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from effkeras.support.registry import Registry
from quantize.formats import IoType

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec

RAW = "raw"  # the default consumer

Kind = Literal["classifier", "detector", "segmenter"]
Nms = Literal["none", "postprocess", "soft", "hard"]
NMS: dict[Nms, str] = {
    "none": "the heads, as they are",
    "postprocess": "TFLite_Detection_PostProcess: hard, and known to phones and Edge TPUs",
    "soft": "built-in operators; the evaluator's own with Gaussian suppression",
    "hard": "built-in operators; the evaluator's own with hard suppression",
}


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a detector with NMS in its graph.

    `holds` is what it contains, in the names of `effkeras.detection.nms`. `signature` is its name in the
    signature, and `tensor` the name of the tensor.
    """

    holds: str
    signature: str
    tensor: str


def _unchanged(network: bytes) -> bytes:
    return network


def _none(_: bytes) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Consumer:
    """The requirements of a program, and the changes to a network that meet them.

    Attributes:
        name: the value of `--for`.
        summary: one line of help.
        models: the kinds of model that it accepts.
        io: types of the input (and of a classifier's output); the default is the first that the recipe has.
        nms: the kinds of NMS that may follow a detector's heads, the default first.
        outputs: the outputs of a detector with NMS in its graph, in the graph's order.
        formats: the recipe formats that it runs; empty for all.
        metadata: whether TFLite Metadata is attached.
        probabilities: whether a classifier has to end in a softmax.
        takes_mixed: whether layers may stay out of the recipe's format to keep the drop within a limit.
        rewrite: returns an equivalent of the quantized network in operators that the program runs.
        problems: returns reasons why the program cannot run a network, apart from accuracy.
        sources: URLs that document these requirements.
    """

    name: str
    summary: str
    models: tuple[Kind, ...]
    io: tuple[IoType, ...]
    nms: tuple[Nms, ...]
    outputs: tuple[Output, ...]
    formats: tuple[str, ...] = ()
    metadata: bool = True
    probabilities: bool = False
    takes_mixed: bool = True
    rewrite: Callable[[bytes], bytes] = _unchanged
    problems: Callable[[bytes], Iterable[str]] = _none
    sources: tuple[str, ...] = ()


CONSUMERS: Registry[Consumer] = Registry("consumer", "export.consumers")


def add_consumer(consumer: Consumer) -> Consumer:
    """Registers a consumer under its name. Raises ValueError when the name is taken."""
    return CONSUMERS.register(consumer.name)(consumer)


def kind_of(spec: ModelSpec) -> Kind:
    """The kind of model that a definition describes; a detector that also segments is a segmenter."""
    if spec.segments:
        return "segmenter"
    return "detector" if spec.is_detector else "classifier"
