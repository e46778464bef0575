"""Consumers, the programs that artifacts are exported for: what each takes, and the target of an artifact.

To add a consumer, add a module to this package that calls `add_consumer`; nothing else changes. `--help`
imports these modules, so they import code that works on artifacts only inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.registry import Registry
from quantize.formats import Format, IoType, check_io

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec, NmsSpec

RAW = "raw"  # the default consumer

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
        models: the kinds of model that it accepts, by the `model` of an `effkeras.inference.task.Task`; empty
            for all.
        io: types of the input (and of a classifier's output); the default is the first that the recipe has.
        nms: the kinds of NMS that may follow a detector's heads, the default first.
        outputs: the outputs of a detector with NMS in its graph, in the graph's order.
        formats: the recipe formats that it runs; empty for all.
        metadata: whether TFLite Metadata is attached.
        probabilities: whether a classifier has to end in a softmax.
        takes_mixed: whether layers may stay out of the recipe's format to keep the drop within a limit.
        rewrite: returns an equivalent of the quantized network in operators that the program runs.
        problems: returns reasons why the program cannot run a network, apart from accuracy.
        label_file: returns the text of a label file for the program; None when it reads labels.txt as it is.
        sources: URLs that document these requirements.
    """

    name: str
    summary: str
    models: tuple[str, ...]
    io: tuple[IoType, ...]
    nms: tuple[Nms, ...]
    outputs: tuple[Output, ...]
    formats: tuple[str, ...] = ()
    metadata: bool = True
    probabilities: bool = False
    takes_mixed: bool = True
    rewrite: Callable[[bytes], bytes] = _unchanged
    problems: Callable[[bytes], Iterable[str]] = _none
    label_file: Callable[[Sequence[str]], str] | None = None
    sources: tuple[str, ...] = ()

    def refused(self, models: Iterable[str]) -> list[str]:
        """Those of the kinds of model that it does not accept."""
        return [model for model in models if self.models and model not in self.models]


CONSUMERS: Registry[Consumer] = Registry("consumer", "export.consumers")


def add_consumer(consumer: Consumer) -> Consumer:
    """Registers a consumer under its name. Raises ValueError when the name is taken."""
    return CONSUMERS.register(consumer.name)(consumer)


@dataclass(frozen=True, slots=True)
class Target:
    """A consumer, the type of inputs and outputs, and the NMS after a detector's heads."""

    consumer: Consumer
    io: IoType = "float32"
    nms: Nms = "none"

    def fitting(self, spec: ModelSpec) -> Target:
        """The target for a model, without NMS if it finds no boxes. EffkerasError when it does not fit."""
        from effkeras.inference.task import tasks_of

        models = [task.model for task in tasks_of(spec).values()]
        refused = self.consumer.refused(models)
        if refused:
            others = [name for name, one in CONSUMERS.entries().items() if not one.refused(models)]
            raise EffkerasError(
                f"--for {self.consumer.name} takes a {' or a '.join(self.consumer.models)}, and {spec.name} "
                f"is a {refused[0]}; use --for with one of {', '.join(others)}"
            )
        return self if spec.detects else replace(self, nms="none")

    def words(self) -> tuple[str, ...]:
        """The parts of a file name that describe the target; empty for the defaults."""
        own = "" if self.nms in ("none", self.consumer.nms[0]) else self.nms
        name = "" if self.consumer.name == RAW else self.consumer.name
        io = "" if self.io == self.consumer.io[0] else self.io
        return tuple(word for word in (name, io, own) if word)


def target_for(name: str, format_: Format, io: str | None = None, nms: str | None = None) -> Target:
    """The target with this consumer, format, type and NMS; None stands for the consumer's default.

    Raises EffkerasError when the consumer does not take such an artifact.
    """
    consumer = CONSUMERS.get(name)
    if consumer.formats and format_.name not in consumer.formats:
        formats = " or ".join(consumer.formats)
        raise EffkerasError(f"--for {name} runs {formats} only, not {format_.name}; use --recipe {formats}")
    return Target(consumer, _io(consumer, format_, io), _nms(consumer, nms))


def nms_settings(own: NmsSpec, nms: Nms) -> NmsSpec:
    """The evaluator's settings that match the NMS in an artifact.

    The operator of "postprocess" uses only each anchor's best class and cannot lower scores.
    """
    if nms == "none":
        return own
    if nms == "postprocess":
        return replace(own, method="hard", max_inputs=0)
    return replace(own, method="gaussian" if nms == "soft" else "hard")


def _io(consumer: Consumer, format_: Format, io: str | None) -> IoType:
    fitting = [one for one in consumer.io if one in format_.io_types]
    if io is None and fitting:
        return fitting[0]
    asked = io or consumer.io[0]
    check_io(format_, asked)
    for one in consumer.io:
        if one == asked:
            return one
    raise EffkerasError(
        f"--for {consumer.name} takes {' or '.join(consumer.io)}, not {asked}; leave out --io"
    )


def _nms(consumer: Consumer, nms: str | None) -> Nms:
    for one in consumer.nms:
        if nms in (one, None):
            return one
    if nms not in NMS:
        raise EffkerasError(f"there is no nms {nms!r}; {did_you_mean(str(nms), NMS)}")
    raise EffkerasError(
        f"--for {consumer.name} goes with --nms {', '.join(consumer.nms)}, not {nms}; leave out --nms"
    )
