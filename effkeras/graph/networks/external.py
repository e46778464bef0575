"""Keras models of the user's own as the backbone of a detector."""

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
    """A Keras model of the user's own: the layers whose outputs are its maps of stride 8, 16, 32.

    What the model computes is in the `.keras` file only, so this cannot be built from a definition.
    """

    needs_keras: ClassVar[bool] = True
    needs_model: ClassVar[bool] = True

    taps: tuple[str, ...]
    kind: Literal["external"] = "external"

    def checks(self) -> dict[str, bool]:
        """Requirements of the table's values, and whether they hold."""
        return {"taps must name a layer for each level from 3 on": 1 <= len(self.taps) <= 3}

    def features(self, net: Vocabulary[Tensor], x: Tensor) -> dict[int, Tensor]:
        """The maps of the levels from 3 on that `taps` name."""
        return dict(enumerate(net.external(x, self.taps), start=FIRST_LEVEL))

    def logits(self, net: Vocabulary[Tensor], x: Tensor, classes: int) -> Tensor:
        """Raises EffkerasError: a classifier of the user's own has its own last layer."""
        raise EffkerasError("a Keras model of one's own can be the backbone of a detector only")
