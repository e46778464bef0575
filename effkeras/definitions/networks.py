"""Kinds of networks: the `kind` of a definition's `[network]` table names one.

Each kind is one module of `effkeras.graph.networks`: a frozen dataclass with the table's keys as fields,
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

# The limit of width and depth factors; the largest published network has 5.3.
LARGEST = 100
MOST_REPEATS = 1000

BATCH_NORM = "batch_norm needs a momentum between 0 and 1 and an epsilon above 0"
# The output name of an auxiliary head; only training builds that head.
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
    """The form of squeeze-and-excitation, for the block strings that request it.

    Its width is the ratio times the block's `of` channels, rounded to a multiple of `divisor`. `activation`
    is the one between its two layers; empty means the block's.
    """

    of: Literal["input", "expanded"] = "input"
    divisor: int = 1
    activation: Literal["", "relu"] = ""
    gate: Gate = "sigmoid"


@dataclass(frozen=True, slots=True)
class DropBlockSpec:
    """DropBlock (arXiv:1810.12890) after each block of the last two strides; a `keep` of 1 turns it off.

    `keep` is the share of values kept in maps of the last stride at the end of training. Maps of the stride
    before drop a quarter as much (the authors' ResNet). `size` is the side of the dropped squares.
    """

    keep: float = 1.0
    size: int = 7


@dataclass(frozen=True, slots=True)
class Conventions:
    """Choices in which frameworks compute the same layers differently; None where a network has no choice.

    `padding` applies to strided convolutions ("symmetric" is PyTorch's), `epsilon` to batch normalisation.
    """

    padding: Literal["same", "symmetric"] | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class Network(ABC):
    """A definition's network, without a classifier's last layer or a detector's feature pyramid.

    A kind must define how its feature maps and logits are computed, in the operations of a
    `effkeras.graph.vocabulary.Vocabulary`; counting and building use these methods. The other methods
    describe features that only some kinds have; their defaults suit all other kinds.

    Attributes:
        needs_keras: only Keras can build the layers, so counting imports Keras.
        needs_model: a definition alone is not enough: only a `.keras` file holds the layers.
    """

    needs_keras: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name of the kind; every kind's record has it as a field."""

    @abstractmethod
    def features(self, net: Any, x: Any) -> dict[int, Any]:
        """The last feature map of each level, up to 5 (level l has stride 2^l).

        Args:
            net: the vocabulary that provides the operations.
            x: the normalised image, (B, H, W, 3).
        """

    @abstractmethod
    def logits(self, net: Any, x: Any, classes: int) -> Any:
        """Logits (B, classes) from the last feature map; their layer is named "logits"."""

    @classmethod
    def for_table(cls, table: Mapping[str, Any], where: str) -> type[Network]:
        """The record class for a `[network]` table; `where` names the table in errors."""
        kind, kinds = table.get("kind", _DEFAULT_KIND), NETWORKS.entries()
        if not isinstance(kind, str) or kind not in kinds:
            raise EffkerasError(f"{where}.kind must be one of {', '.join(kinds)}, not {kind!r}")
        return kinds[kind]

    @classmethod
    def match(cls: type[Kind], network: Network) -> Kind | None:
        """The network if it is of this kind, else None; for code that handles one kind only."""
        return network if isinstance(network, cls) else None

    def problem(self) -> str:
        """The first failed check of the table's values, or an empty text."""
        return next((text for text, holds in self.checks().items() if not holds), "")

    def checks(self) -> dict[str, bool]:
        """Requirements on the table's values, and whether each holds."""
        return {}

    def for_pyramid(self) -> Network:
        """The network for a detector, with maps that cover the whole image. The weights stay the same."""
        return self

    def scaled(self, width: float, depth: float) -> Network | None:
        """The network `width` times as wide and `depth` times as deep; None if it cannot be scaled."""
        return None

    def as_built(self) -> Network:
        """The same network with its width and depth factors already applied."""
        return self

    def regularizers(self) -> dict[str, Any]:
        """The network's values of the fields of `effkeras.Regularization`."""
        names = {field.name for field in dataclasses.fields(self)}
        return {name: getattr(self, name) for name in _REGULARIZERS if name in names}

    def with_activations(self, change: Callable[[Activation], Activation]) -> Network:
        """The network with each activation replaced by `change(activation)`."""
        return self

    def with_gate(self, gate: Gate | None) -> Network:
        """The network with another squeeze-and-excitation gate; None removes squeeze-and-excitation."""
        return self

    def conventions(self) -> Conventions:
        """The network's conventions; None for those in which it has no choice."""
        return Conventions()

    def with_conventions(self, wanted: Conventions) -> Network:
        """The network with other conventions; None keeps a convention."""
        return self

    def block_strings(self) -> dict[str, str]:
        """The block string of each MBConv block as built, by block name; empty in other kinds."""
        return {}

    @property
    def auxiliary_weight(self) -> float:
        """The weight of the auxiliary head's loss in `effkeras train`; 0 without such a head."""
        return 0.0

    @property
    def auxiliary_layer(self) -> str:
        """The layer whose output feeds an auxiliary head; empty where the network supports none."""
        return ""

    def auxiliary_logits(self, net: Any, x: Any, classes: int) -> Any:
        """Logits (B, classes) of an auxiliary head on the output of `auxiliary_layer`."""
        raise NotImplementedError(f"networks of {self.kind} have no auxiliary head")

    def description(self) -> list[tuple[str, str]]:
        """Rows of `effkeras info`: a name and its value."""
        return []

    def scale_columns(self) -> tuple[str, str]:
        """The depth and width columns of `effkeras scale`."""
        return "-", "-"


NETWORKS: Registry[type[Network]] = Registry("kind of network", "effkeras.graph.networks")
