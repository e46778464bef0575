"""An artifact's target: a consumer, the type of inputs and outputs, and the NMS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError, did_you_mean
from export.consumers.consumer import CONSUMERS, NMS, RAW, Consumer, Nms, kind_of
from quantize.formats import Format, IoType, check_io

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec, NmsSpec


@dataclass(frozen=True, slots=True)
class Target:
    """A consumer, the type of inputs and outputs, and the NMS after a detector's heads."""

    consumer: Consumer
    io: IoType = "float32"
    nms: Nms = "none"

    def fitting(self, spec: ModelSpec) -> Target:
        """The target for a model, without NMS if it finds no boxes. EffkerasError when it does not fit."""
        kind = kind_of(spec)
        if kind not in self.consumer.models:
            others = ", ".join(name for name, one in CONSUMERS.entries().items() if kind in one.models)
            raise EffkerasError(
                f"--for {self.consumer.name} takes a {' or a '.join(self.consumer.models)}, and {spec.name} "
                f"is a {kind}; use --for with one of {others}"
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
