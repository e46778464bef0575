"""From a quantized network to the artifact that a consumer takes, or to the reasons why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from effkeras.definition import ModelSpec
from effkeras.detection.nms import Decoder
from effkeras.litert.edge_tpu import for_edge_tpu
from effkeras.litert.editor import GraphEditor
from effkeras.litert.runner import LiteRTModel
from effkeras.litert.strips import in_strips
from export.consumers.consumer import Target, nms_settings
from export.consumers.grafting import by_role, grafted

_REWRITES = {"edge-tpu": for_edge_tpu, "xnnpack": in_strips}


@dataclass(frozen=True, slots=True)
class Finish:
    """What is done to a network of a definition for a target."""

    spec: ModelSpec
    target: Target

    def network(self, flatbuffer: bytes) -> bytes:
        """The quantized network in the operators that the consumer runs; it computes the same."""
        rewrite = _REWRITES.get(self.target.consumer.delegate)
        return rewrite(flatbuffer) if rewrite else flatbuffer

    def __call__(self, network: bytes) -> bytes:
        """The artifact: NMS behind the heads, the consumer's names on the outputs, metadata."""
        artifact = grafted(network, self.spec, self.target)
        return _with_metadata(artifact, self.spec) if self.target.consumer.metadata else artifact

    @property
    def decoder(self) -> Decoder | None:
        """Suppresses boxes as the artifact does; None when it has no NMS inside."""
        if self.target.nms == "none":
            return None
        own = Decoder.of(self.spec)
        return replace(own, nms=nms_settings(own.nms, self.target.nms))

    @property
    def takes_mixed(self) -> bool:
        """Whether some layers may stay out of int8: an Edge TPU would leave all that follows to the CPU."""
        return self.target.consumer.delegate != "edge-tpu"

    def problems(self, network: bytes) -> tuple[str, ...]:
        """Why the consumer could not run the network, whatever its accuracy; empty if it can."""
        return (*self._of_scores(network), *self._of_delegate(network))

    def _of_scores(self, network: bytes) -> Iterator[str]:
        consumer = self.target.consumer
        if self.spec.is_detector or not consumer.probabilities:
            return
        (name,) = GraphEditor(network).outputs()
        if name != "probabilities":
            yield (
                f"{consumer.name} reads probabilities, and the model gives logits ({name}); "
                "build it with a softmax"
            )

    def _of_delegate(self, network: bytes) -> Iterator[str]:
        if self.target.consumer.delegate == "xnnpack":
            yield from _xnnpack_problems(network)
        elif self.target.consumer.delegate == "edge-tpu":
            yield from _edge_tpu_problems(network)


def _xnnpack_problems(network: bytes) -> Iterator[str]:
    taken = LiteRTModel.of_bytes(network).delegated()
    if (taken.delegated_ops, taken.partitions) != (taken.total_ops, 1):
        yield f"XNNPACK does not run the whole network in one piece, but {taken}; try another recipe or --io"


def _edge_tpu_problems(network: bytes) -> Iterator[str]:
    from export.preflight import check_for

    found = check_for(network, "edgetpu")
    if not found.passed:
        yield f"an Edge TPU does not run the whole network, but {found.summary()}"


def _with_metadata(artifact: bytes, spec: ModelSpec) -> bytes:
    from export.metadata import attach, of_classifier, of_detector

    describe = of_detector if spec.is_detector else of_classifier
    return attach(artifact, describe(spec, spec.labels, by_role(artifact)))
