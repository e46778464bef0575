"""The devices of this machine: one, with Keras's own `fit`, or several GPUs in one process."""

from __future__ import annotations

from typing import Any

from effkeras.support.errors import EffkerasError
from effkeras.training.strategies import STRATEGIES, Request, Strategy
from effkeras.training.strategies.replicated import Replicated


def choose(request: Request, *, every: bool = False) -> tuple[str, ...]:
    """The names of the devices, such as "GPU:0"; others are hidden from TensorFlow.

    Where nothing was asked, it is the first GPU, or with `every` each of them, or else the CPU. Of a CPU,
    numbers are parts of it that count as devices, for tests: `cpu:0,1` makes two. Raises EffkerasError if
    there are no such devices, or TensorFlow uses them already.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    is_gpu = request.kind == "gpu" or (request.kind in ("", "all") and bool(gpus))
    try:
        return _gpus(request, gpus, every=every) if is_gpu else _cpus(request)
    except RuntimeError as error:
        raise EffkerasError(f"--devices must be chosen before TensorFlow is used ({error})") from error


def _gpus(request: Request, gpus: list[Any], *, every: bool) -> tuple[str, ...]:
    import tensorflow as tf

    if not gpus:
        raise EffkerasError("--devices gpu: TensorFlow finds no GPU here; --devices cpu trains without")
    default = range(len(gpus)) if request.kind or every else (0,)
    missing = [number for number in request.numbers if number >= len(gpus)]
    if missing:
        raise EffkerasError(f"--devices: there is no GPU {missing[0]}; TensorFlow finds {len(gpus)}")
    chosen = request.numbers or tuple(default)
    tf.config.set_visible_devices([gpus[number] for number in chosen], "GPU")
    return tuple(f"GPU:{place}" for place in range(len(chosen)))


def _cpus(request: Request) -> tuple[str, ...]:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    count = max(request.numbers, default=0) + 1
    if count > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    return tuple(f"CPU:{number}" for number in request.numbers or (0,))


@STRATEGIES.register("single")
class Single(Strategy):
    """Trains on one device, by default the one that TensorFlow chooses."""

    @classmethod
    def serves(cls, request: Request) -> bool:
        """See `Strategy`."""
        is_cpu = request.kind == "cpu" and not request.numbers
        is_one = request.kind in ("cpu", "gpu") and len(request.numbers) == 1
        return request.cluster is None and (not request.kind or is_cpu or is_one)

    def __init__(self, request: Request) -> None:

        if request.kind:
            choose(request)


@STRATEGIES.register("mirrored")
class Mirrored(Replicated):
    """A copy of the model on each GPU (`tf.distribute.MirroredStrategy`), or in tests on parts of the CPU."""

    @classmethod
    def serves(cls, request: Request) -> bool:
        """See `Strategy`; a request for all GPUs of a machine with one finds only that one."""
        is_several = len(request.numbers) > 1 or (request.kind in ("all", "gpu") and not request.numbers)
        return request.cluster is None and request.kind in ("all", "cpu", "gpu") and is_several

    def __init__(self, request: Request) -> None:
        import tensorflow as tf

        super().__init__(tf.distribute.MirroredStrategy(choose(request)))
