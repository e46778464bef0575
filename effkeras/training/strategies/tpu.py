"""The cores of a TPU. Untested: no TPU was at hand."""

from __future__ import annotations

from effkeras.support.errors import EffkerasError, first_line
from effkeras.training.strategies import STRATEGIES, Request
from effkeras.training.strategies.replicated import Replicated


@STRATEGIES.register("tpu")
class Tpu(Replicated):
    """A copy of the model on each core of a TPU (`tf.distribute.TPUStrategy`); untested."""

    @classmethod
    def serves(cls, request: Request) -> bool:
        """See `Strategy`."""
        return request.kind == "tpu" and request.cluster is None

    def __init__(self, request: Request) -> None:
        import tensorflow as tf

        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=request.address or "local")
            tf.config.experimental_connect_to_cluster(resolver)
            tf.tpu.experimental.initialize_tpu_system(resolver)
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            raise EffkerasError(
                f"--devices tpu: TensorFlow finds no TPU here ({first_line(error)[:200]})"
            ) from error
        super().__init__(tf.distribute.TPUStrategy(resolver))
