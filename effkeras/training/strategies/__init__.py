"""Strategies: how a training uses its devices, each a class that registers itself.

    @STRATEGIES.register("mirrored")
    class Mirrored(Replicated):
        @classmethod
        def serves(cls, request): return request.kind == "gpu" and len(request.numbers) > 1

`open_strategy` finds the one that serves what `--devices` and the cluster ask for. Their modules load
TensorFlow only when they are opened, so that reading options does not need it.
"""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.registry import Registry
from effkeras.training.strategies.cluster import Cluster, end_with_launcher

if TYPE_CHECKING:
    from effkeras.data.records import LabelledData
    from effkeras.training.callbacks import Hook
    from effkeras.training.session import Session, TrainingModels, TrainingPlan

Made = TypeVar("Made")
STRATEGIES: Registry[type[Strategy]] = Registry("strategy for devices", "effkeras.training.strategies")
DEVICES_HELP = "all (every GPU), cpu, gpu:0,1, or tpu (default: the first GPU, if there is one)"
_KINDS = ("all", "cpu", "gpu", "tpu")


@dataclass(frozen=True, slots=True)
class Request:
    """What a training asks for: devices of this machine, and the cluster of machines it is a part of.

    `kind` is all, cpu, gpu or tpu, or "" if nothing was asked; `numbers` are those of devices, () for all;
    `address` is that of a TPU.
    """

    kind: str = ""
    numbers: tuple[int, ...] = ()
    address: str = ""
    cluster: Cluster | None = None


def request_of(devices: str | None, cluster: Cluster | None = None) -> Request:
    """Reads `--devices`. Raises EffkerasError for anything but all, cpu, gpu, tpu, and their numbers."""
    if devices is None:
        return Request(cluster=cluster)
    kind, _, rest = devices.partition(":")
    if kind not in _KINDS:
        raise EffkerasError(f"--devices: there is no kind of device {kind!r}; {did_you_mean(kind, _KINDS)}")
    if kind == "tpu":
        return Request(kind, address=rest, cluster=cluster)
    if not rest and devices == kind:
        return Request(kind, cluster=cluster)
    numbers = tuple(int(one) for one in rest.split(",")) if re.fullmatch(r"\d+(,\d+)*", rest) else ()
    if kind == "all" or not numbers or len(set(numbers)) < len(numbers):
        raise EffkerasError(f"--devices {devices}: give numbers of devices once each, such as gpu:0,1")
    return Request(kind, numbers, cluster=cluster)


def open_strategy(request: Request) -> Strategy:
    """The strategy that serves a request; it must be opened before TensorFlow has used any device.

    Raises EffkerasError if there are no such devices.
    """
    end_with_launcher()
    for kind in STRATEGIES.entries().values():
        if kind.serves(request):
            return kind(request)
    raise EffkerasError(f"no strategy trains on {request.kind or 'the default device'} in this cluster")


class Strategy(ABC):
    """How a training uses its devices; this base trains as the only process.

    `replicas` counts the copies of the model, over all machines; each takes an equal part of a batch.
    `worker` is the number of this process among `workers`; the chief is number 0. It validates and writes.
    """

    replicas: int = 1
    workers: int = 1
    worker: int = 0

    @classmethod
    @abstractmethod
    def serves(cls, request: Request) -> bool:
        """Whether this strategy is the one for a request; of no request, two may be."""

    @abstractmethod
    def __init__(self, request: Request) -> None:
        """Opens the devices. Raises EffkerasError if there are none."""

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager[object]:
        """Where the trained model is built."""
        return nullcontext()

    def session(self, plan: TrainingPlan, models: TrainingModels, hooks: Sequence[Hook] = ()) -> Session:
        """The training itself."""
        from effkeras.training.session import Session

        return Session(plan, models, hooks)

    def from_chief(
        self, make: Callable[[], Made], write: Callable[[Made], str], read: Callable[[str], Made]
    ) -> Made:
        """What `make` returns on the chief, where alone it is called; the others `read` what it has written.

        Its EffkerasError is raised in every process.
        """
        return make()

    def gathered(self, number: int) -> tuple[int, ...]:
        """The numbers with which all processes call this, by worker; each waits for the others."""
        return (number,)


def check_same_data(data: LabelledData, strategy: Strategy) -> None:
    """Raises EffkerasError in every process unless all of them have read the same images."""
    names = "\n".join([*data.labels, *(record.path.name for record in data.records)])
    found = strategy.gathered(zlib.crc32(names.encode()))
    other = next((number for number, one in enumerate(found) if one != found[0]), 0)
    if other:
        raise EffkerasError(
            f"worker {other} reads other images, or other classes, than the chief: give every machine the "
            "same data, in the same order"
        )
