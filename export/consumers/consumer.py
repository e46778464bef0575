"""Consumers: the programs that artifacts are exported for, what they take, and their registry.

A module of this package adds a consumer; nothing else has to know of it. Modules here are imported for
`--help`, so they load what works on artifacts only inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from effkeras.support.registry import Registry
from quantize.formats import IoType

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec

RAW = "raw"  # the consumer that files are made for where none is named

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
    """One output of a detector with NMS inside.

    `holds` says what (`effkeras.detection.nms`), `signature` is its name there, `tensor` the tensor's own.
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
    """What a program takes, and what is done to a network for it.

    Attributes:
        name: what `--for` calls it.
        summary: one line of help.
        models: the kinds of model that it takes.
        io: types of the input (and of a classifier's output); the first that a recipe can have is taken.
        nms: what may be put behind a detector's heads, the default first.
        outputs: of a detector with NMS inside, in the graph's order.
        formats: the recipes' formats that it runs; empty for all.
        metadata: whether TFLite Metadata is attached.
        probabilities: whether a classifier has to end in a softmax.
        takes_mixed: whether layers may stay out of the recipe's format to keep a budget.
        rewrite: gives the quantized network in operators that the program runs; it computes the same.
        problems: why the program could not run a network, whatever its accuracy.
        sources: where its wishes are documented.
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
    """Adds a consumer under its name; ValueError for a name that another has."""
    return CONSUMERS.register(consumer.name)(consumer)


def kind_of(spec: ModelSpec) -> Kind:
    """What kind of model a definition is of; one that both finds boxes and segments is a segmenter."""
    if spec.segments:
        return "segmenter"
    return "detector" if spec.is_detector else "classifier"
