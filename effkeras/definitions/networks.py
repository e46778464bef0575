"""Kinds of networks: the `kind` of a definition's `[network]` table names one.

A kind is one module of `effkeras.graph.networks`: a frozen dataclass with the table's keys as fields,
registered in `NETWORKS`. Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry

# A factor of width or depth beyond this is a mistake: the largest published network has 5.3.
LARGEST = 100
MOST_REPEATS = 1000

BATCH_NORM = "batch_norm needs a momentum between 0 and 1 and an epsilon above 0"
# The name of an auxiliary head's output; whatever is not training leaves it out.
AUXILIARY = "auxiliary"

_DEFAULT_KIND = "blocks"
_REGULARIZERS = ("dropout", "survival", "drop_block")

Activation = Literal["swish", "relu6", "relu", "hard_swish"]
Gate = Literal["sigmoid", "hard_sigmoid"]
Kind = TypeVar("Kind", bound="Network")


@dataclass(frozen=True, slots=True)
class BatchNormSpec:
    """Batch normalisation's momentum and epsilon."""

    momentum: float = 0.99
    epsilon: float = 1e-3

    @property
    def is_valid(self) -> bool:
        """Whether both values are in range."""
        return 0 <= self.momentum < 1 and self.epsilon > 0


@dataclass(frozen=True, slots=True)
class SqueezeSpec:
    """How squeeze-and-excitation is made, where a block string asks for it.

    Its width is the ratio of a block's `of` channels, rounded to a multiple of `divisor`; `activation` is
    the one in its middle (the block's own when empty).
    """

    of: Literal["input", "expanded"] = "input"
    divisor: int = 1
    activation: Literal["", "relu"] = ""
    gate: Gate = "sigmoid"


@dataclass(frozen=True, slots=True)
class DropBlockSpec:
    """DropBlock (arXiv:1810.12890) after each block of the last two strides; a `keep` of 1 is none.

    `keep` is the share that the last stride's maps keep at the end of training; the stride before drops a
    quarter as much (the authors' ResNet). `size` is the side of the dropped squares.
    """

    keep: float = 1.0
    size: int = 7


@dataclass(frozen=True, slots=True)
class Conventions:
    """Where frameworks compute the same layers differently; None where a network leaves no choice.

    `padding` is that of strided convolutions, "symmetric" is PyTorch's; `epsilon` is batch normalisation's.
    """

    padding: Literal["same", "symmetric"] | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class Network(ABC):
    """A network below a classifier's last layer or a detector's pyramid, as a definition describes it.

    A kind must say how its feature maps and logits are computed, in the operations of a
    `effkeras.graph.vocabulary.Vocabulary`; counting, building and everything else follow from that. The other
    methods describe what only some kinds have, and their defaults suit a kind that has none of it.

    Attributes:
        needs_keras: only Keras knows the layers, so that counting them loads it.
        needs_model: a definition alone is not enough: the layers are in a Keras model, which only a `.keras`
            file holds.
    """

    needs_keras: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name of the kind, which is a field of every kind's record."""

    @abstractmethod
    def features(self, net: Any, x: Any) -> dict[int, Any]:
        """The last feature map of each level, up to 5 (level l has stride 2^l).

        Args:
            net: the vocabulary whose operations are used.
            x: the normalised image, (B, H, W, 3).
        """

    @abstractmethod
    def logits(self, net: Any, x: Any, classes: int) -> Any:
        """Logits (B, classes) from the last feature map; the layer with their weights is named "logits"."""

    @classmethod
    def for_table(cls, table: Mapping[str, Any], where: str) -> type[Network]:
        """The record that a `[network]` table is read into; `where` names the table in errors."""
        kind, kinds = table.get("kind", _DEFAULT_KIND), NETWORKS.entries()
        if not isinstance(kind, str) or kind not in kinds:
            raise EffkerasError(f"{where}.kind must be one of {', '.join(kinds)}, not {kind!r}")
        return kinds[kind]

    @classmethod
    def match(cls: type[Kind], network: Network) -> Kind | None:
        """The network if it is of this kind, else None; for code that serves one kind only."""
        return network if isinstance(network, cls) else None

    def problem(self) -> str:
        """What is wrong with the values of the table, or an empty text."""
        return next((text for text, holds in self.checks().items() if not holds), "")

    def checks(self) -> dict[str, bool]:
        """Requirements of the table's values, and whether they hold."""
        return {}

    def for_pyramid(self) -> Network:
        """The network as a detector needs it: all maps cover the whole image. The weights stay the same."""
        return self

    def scaled(self, width: float, depth: float) -> Network | None:
        """The network `width` times as wide and `depth` times as deep; None where it cannot be scaled."""
        return None

    def as_built(self) -> Network:
        """The same network with its factors of width and depth multiplied out."""
        return self

    def regularizers(self) -> dict[str, Any]:
        """The values of `effkeras.Regularization` that the network has."""
        names = {field.name for field in dataclasses.fields(self)}
        return {name: getattr(self, name) for name in _REGULARIZERS if name in names}

    def with_activations(self, change: Callable[[Activation], Activation]) -> Network:
        """The network with each activation replaced by `change` of it."""
        return self

    def with_gate(self, gate: Gate | None) -> Network:
        """The network with another gate in squeeze-and-excitation, or with None without it."""
        return self

    def conventions(self) -> Conventions:
        """The conventions that the network follows, of those that it leaves a choice in."""
        return Conventions()

    def with_conventions(self, wanted: Conventions) -> Network:
        """The network with other conventions; None leaves one as it is."""
        return self

    def block_strings(self) -> dict[str, str]:
        """The block string of each MBConv block as built, by the block's name; none in other kinds."""
        return {}

    @property
    def auxiliary_weight(self) -> float:
        """The weight of an auxiliary head's loss in `effkeras train`; 0 for no such head."""
        return 0.0

    @property
    def auxiliary_layer(self) -> str:
        """The layer whose output an auxiliary head takes; empty where a head has no place."""
        return ""

    def auxiliary_logits(self, net: Any, x: Any, classes: int) -> Any:
        """Logits (B, classes) of an auxiliary head on the output of `auxiliary_layer`."""
        raise NotImplementedError(f"networks of {self.kind} have no auxiliary head")

    def description(self) -> list[tuple[str, str]]:
        """Rows of `effkeras info`: what a row states, and its value."""
        return []

    def scale_columns(self) -> tuple[str, str]:
        """Depth and width in `effkeras scale`."""
        return "-", "-"


NETWORKS: Registry[type[Network]] = Registry("kind of network", "effkeras.graph.networks")
