"""Several GPUs of one machine, in one process."""

from __future__ import annotations

from effkeras.training.strategies import STRATEGIES, Request
from effkeras.training.strategies.replicated import Replicated


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

        from effkeras.training.strategies.devices import choose

        super().__init__(tf.distribute.MirroredStrategy(choose(request)))
