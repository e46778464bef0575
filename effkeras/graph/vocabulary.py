"""The operations that every network here is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from effkeras.definition import BatchNormSpec

Tensor = TypeVar("Tensor")


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution's hyper-parameters; SAME padding throughout, as in the reference."""

    filters: int
    kernel: int = 1
    stride: int = 1
    bias: bool = False
    bias_start: float = 0.0
    activation: str = ""


@dataclass(frozen=True, slots=True)
class Style:
    """What the layers of one part of a network have in common."""

    activation: str
    batch_norm: BatchNormSpec
    channels: Mapping[str, int] = field(default_factory=dict)

    def width(self, name: str, default: int) -> int:
        """Filters of the layer `name`: the definition's `[channels]` may override the default."""
        return self.channels.get(name, default)


class Vocabulary(ABC, Generic[Tensor]):
    """One meaning for each operation; a tensor is whatever the implementation passes along."""

    @abstractmethod
    def size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of a feature map."""

    @abstractmethod
    def channels(self, x: Tensor) -> int:
        """Channels of a feature map."""

    @abstractmethod
    def conv(self, x: Tensor, name: str, conv: Conv) -> Tensor:
        """A dense convolution."""

    @abstractmethod
    def depthwise(self, x: Tensor, name: str, kernel: int, stride: int) -> Tensor:
        """A depthwise convolution without bias."""

    @abstractmethod
    def separable(self, name: str, conv: Conv) -> Callable[[Tensor], Tensor]:
        """A separable convolution that may be called on several maps, its weights shared."""

    @abstractmethod
    def batch_norm(self, x: Tensor, name: str, spec: BatchNormSpec) -> Tensor:
        """Batch normalisation over the channels."""

    @abstractmethod
    def activation(self, x: Tensor, name: str, kind: str) -> Tensor:
        """A pointwise non-linearity."""

    @abstractmethod
    def add(self, xs: Sequence[Tensor], name: str) -> Tensor:
        """The sum of equal shapes, taken in order."""

    @abstractmethod
    def fuse(self, xs: Sequence[Tensor], name: str) -> Tensor:
        """Fast normalised fusion: a sum with learned non-negative weights."""

    @abstractmethod
    def multiply(self, x: Tensor, gate: Tensor, name: str) -> Tensor:
        """A map times one factor per channel."""

    @abstractmethod
    def mean(self, x: Tensor, name: str) -> Tensor:
        """The mean over height and width, both kept as 1."""

    @abstractmethod
    def max_pool(self, x: Tensor, name: str) -> Tensor:
        """Max pooling, window 3, stride 2, SAME."""

    @abstractmethod
    def upsample(self, x: Tensor, name: str, size: tuple[int, int]) -> Tensor:
        """Nearest-neighbour enlargement to `size`, which is twice the input's or one less."""

    @abstractmethod
    def dropout(self, x: Tensor, name: str, rate: float, whole_sample: bool) -> Tensor:
        """Dropout of single values, or of whole samples (stochastic depth)."""

    @abstractmethod
    def flatten(self, x: Tensor, name: str) -> Tensor:
        """(B, 1, 1, C) to (B, C)."""

    @abstractmethod
    def dense(self, x: Tensor, name: str, units: int) -> Tensor:
        """A fully connected layer with bias."""

    @abstractmethod
    def rows(self, xs: Sequence[Tensor], name: str, width: int) -> Tensor:
        """All maps flattened to rows of `width` values, row-major, one below the other: (B, N, width)."""


def conv_norm_act(
    net: Vocabulary[Tensor], x: Tensor, name: str, conv: Conv, style: Style, *, act: bool = True
) -> Tensor:
    """Convolution, batch normalisation and, unless `act` is false, the activation."""
    x = net.conv(x, f"{name}_conv", conv)
    x = net.batch_norm(x, f"{name}_bn", style.batch_norm)
    return net.activation(x, f"{name}_act", style.activation) if act else x
