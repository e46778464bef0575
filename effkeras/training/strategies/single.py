"""One device: Keras's own `fit`."""

from __future__ import annotations

from effkeras.training.strategies import STRATEGIES, Request, Strategy


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
        from effkeras.training.strategies.devices import choose

        if request.kind:
            choose(request)
