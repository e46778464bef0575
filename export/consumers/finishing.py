"""Turns a quantized network into a consumer's artifact, or reports why the consumer cannot run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from export.consumers.target import Target, nms_settings

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec
    from effkeras.detection.nms import Decoder


@dataclass(frozen=True, slots=True)
class Finish:
    """Finishes the networks of a definition for a target; implements `quantize.attempts.Finishing`."""

    spec: ModelSpec
    target: Target

    def network(self, flatbuffer: bytes) -> bytes:
        """An equivalent of the quantized network in operators that the consumer runs."""
        return self.target.consumer.rewrite(flatbuffer)

    def __call__(self, network: bytes) -> bytes:
        """The artifact: the network with NMS after the heads, the consumer's output names, and metadata."""
        from export.consumers.nms.grafting import grafted

        artifact = grafted(network, self.spec, self.target)
        return _with_metadata(artifact, self.spec) if self.target.consumer.metadata else artifact

    @property
    def decoder(self) -> Decoder | None:
        """A decoder that suppresses boxes as the artifact does; None when its graph has no NMS."""
        from effkeras.detection.nms import Decoder

        if self.target.nms == "none":
            return None
        own = Decoder.of(self.spec)
        return replace(own, nms=nms_settings(own.nms, self.target.nms))

    @property
    def takes_mixed(self) -> bool:
        """Whether some layers may stay out of the recipe's format."""
        return self.target.consumer.takes_mixed

    def problems(self, network: bytes) -> tuple[str, ...]:
        """The reasons why the consumer cannot run the network, apart from accuracy; empty if it can."""
        return (*self._of_scores(network), *self.target.consumer.problems(network))

    def _of_scores(self, network: bytes) -> Iterator[str]:
        from effkeras.litert.editor import GraphEditor

        consumer = self.target.consumer
        if self.spec.is_detector or not consumer.probabilities:
            return
        (name,) = GraphEditor(network).outputs()
        if name != "probabilities":
            yield (
                f"{consumer.name} reads probabilities, and the model gives logits ({name}); "
                "build it with a softmax"
            )


def _with_metadata(artifact: bytes, spec: ModelSpec) -> bytes:
    from export.consumers.nms.grafting import by_role
    from export.metadata import attach, of_classifier, of_detector

    describe = of_detector if spec.is_detector else of_classifier
    return attach(artifact, describe(spec, spec.labels, by_role(artifact)))
