"""The kind "external": custom Keras models as the backbone of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from effkeras.definitions.networks import NETWORKS, Network
from effkeras.graph.vocabulary import Tensor, Vocabulary
from effkeras.support.errors import EffkerasError

FIRST_LEVEL = 3


@NETWORKS.register("external")
@dataclass(frozen=True, slots=True)
class ExternalNetwork(Network):
    """A custom Keras model; `taps` are the layers that output its feature maps of stride 8, 16 and 32.

    Only the `.keras` file holds the model's layers, so a definition alone cannot build it.
    """

    needs_keras: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True

    taps: tuple[str, ...]
    kind: Literal["external"] = "external"

    def checks(self) -> dict[str, bool]:
        """Requirements on the table's values, and whether each holds."""
        return {"taps must name a layer for each level from 3 on": 1 <= len(self.taps) <= 3}

    def features(self, net: Vocabulary[Tensor], x: Tensor) -> dict[int, Tensor]:
        """The maps of `taps`, for the levels from 3 on."""
        return dict(enumerate(net.external(x, self.taps), start=FIRST_LEVEL))

    def logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Raises EffkerasError: a custom classifier has its own last layer."""
        raise EffkerasError("a custom Keras model can only be the backbone of a detector, such as d0")
