"""The processes of a cluster, each with the GPUs of its machine, or its CPU."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from effkeras.support.errors import EffkerasError, first_line
from effkeras.training.strategies import STRATEGIES, Request
from effkeras.training.strategies.cluster import LAUNCHER, Cluster
from effkeras.training.strategies.replicated import Replicated

Made = TypeVar("Made")
# Lengths of the vectors that processes add up: each has a function that TensorFlow traces once.
_LENGTHS = (8, 2**12, 2**20)
# A launcher says which worker ended; the others wait this long for it before they say anything themselves.
_GRACE = 20.0


@STRATEGIES.register("workers")
class Workers(Replicated):
    """A process of a cluster (`tf.distribute.MultiWorkerMirroredStrategy`); the first one is the chief."""

    @classmethod
    def serves(cls, request: Request) -> bool:
        """See `Strategy`."""
        return request.cluster is not None and request.kind != "tpu"

    def __init__(self, request: Request) -> None:
        cluster = request.cluster
        assert cluster is not None
        if request.kind == "cpu" and request.numbers:
            raise EffkerasError("in a cluster, a worker takes the whole CPU: --devices cpu")
        self.workers, self.worker = len(cluster.workers), cluster.number
        super().__init__(_distribution(request, cluster))
        self._sums: dict[int, Any] = {}

    def agreed(self, make: Callable[[], Sequence[float]], count: int) -> list[float]:
        """See `Replicated`."""
        values = make() if self.is_chief else [0.0] * count
        return self._summed(np.array(values, np.float64)).tolist()  # type: ignore[no-any-return]

    def from_chief(
        self, make: Callable[[], Made], write: Callable[[Made], str], read: Callable[[str], Made]
    ) -> Made:
        """See `Strategy`."""
        made: list[Made] = []
        text, error = "", ""
        if self.is_chief:
            try:
                made.append(make())
                text = write(made[0])
            except EffkerasError as found:
                error = str(found)
        text, error = json.loads(self._text(json.dumps([text, error])))
        if error:
            raise EffkerasError(error)
        return made[0] if made else read(text)

    def gathered(self, number: int) -> tuple[int, ...]:
        """See `Strategy`."""
        values = np.zeros(self.workers)
        values[self.worker] = number
        return tuple(int(one) for one in self._summed(values))

    def share(self, variables: Sequence[Any]) -> None:
        """See `Replicated`; values travel as float64, which holds all of float32 and of counts."""
        for some in _groups(variables, _LENGTHS[-1]):
            flat = np.concatenate([np.asarray(one).astype(np.float64).ravel() for one in some])
            values = self._summed(flat if self.is_chief else np.zeros_like(flat))
            ends = np.cumsum([int(np.prod(one.shape)) for one in some])
            for one, part in zip(some, np.split(values, ends[:-1]), strict=True):
                one.assign(part.astype(one.dtype).reshape(one.shape))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns the error that follows the death of another process into one line."""
        import tensorflow as tf

        lost = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.InternalError,
        )
        try:
            yield
        except lost as error:
            if LAUNCHER in os.environ:
                time.sleep(_GRACE)
            raise EffkerasError(
                f"another worker of this training is gone or cannot be reached ({first_line(error)[:200]}); "
                "run the same command again on every machine: it goes on from the last checkpoint"
            ) from error

    def _text(self, text: str) -> str:
        """The chief's text."""
        content = np.frombuffer(text.encode(), np.uint8).astype(np.float64)
        (length,) = self.agreed(lambda: [len(content)], 1)
        whole = self._summed(content if self.is_chief else np.zeros(int(length)))
        return whole.astype(np.uint8).tobytes().decode()

    def _summed(self, values: np.ndarray) -> np.ndarray:
        """The sum over all processes of vectors (n,) of the same length."""
        length = next((one for one in _LENGTHS if one >= len(values)), _LENGTHS[-1])
        pieces = [values[first : first + length] for first in range(0, len(values), length)]
        with self.watched():
            return np.concatenate([self._piece(piece, length)[: len(piece)] for piece in pieces])

    def _piece(self, values: np.ndarray, length: int) -> np.ndarray:
        import tensorflow as tf

        own = np.pad(values, (0, length - len(values)))
        first = iter([own])  # only the first device of this process adds them

        def value(_: Any) -> tf.Tensor:
            return tf.constant(next(first, np.zeros_like(own)))

        given = self.distribution.experimental_distribute_values_from_function(value)
        total = self._sum_of(length)(given)
        return self.distribution.experimental_local_results(total)[0].numpy()  # type: ignore[no-any-return]

    def _sum_of(self, length: int) -> Any:
        import tensorflow as tf

        def add(values: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The copy is on this device, which an argument of the function is not known to be.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        if length not in self._sums:
            run = self.distribution.run
            self._sums[length] = tf.function(lambda values: run(add, args=(values,)), autograph=False)
        return self._sums[length]


def _distribution(request: Request, cluster: Cluster) -> Any:
    import tensorflow as tf

    from effkeras.training.strategies.local import choose

    gpus = sum(name.startswith("GPU") for name in choose(request, every=True))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.number,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise EffkerasError(f"the workers do not find each other ({first_line(error)[:200]})") from error


def _groups(variables: Sequence[Any], most: int) -> Iterator[list[Any]]:
    """Variables in groups of about `most` values."""
    chosen: list[Any] = []
    size = 0
    for one in variables:
        chosen.append(one)
        size += int(np.prod(one.shape))
        if size >= most:
            yield chosen
            chosen, size = [], 0
    if chosen:
        yield chosen
