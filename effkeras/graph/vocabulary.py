"""The vocabulary: the abstract operations that all networks are written in, and what is counted of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from effkeras.definitions.networks import BatchNormSpec, SqueezeSpec

Tensor = TypeVar("Tensor")

# XNNPACK does not run concatenations of more maps.
MOST_CONCATENATED = 5

# "same" is TensorFlow's padding (more at the end), "symmetric" is PyTorch's: kernel // 2 on each side.
Padding = Literal["same", "valid", "symmetric"]


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution's hyper-parameters; kernel and stride are one number, or one per axis."""

    filters: int
    kernel: int | tuple[int, int] = 1
    stride: int | tuple[int, int] = 1
    bias: bool = False
    bias_start: float = 0.0
    padding: Padding = "same"
    dilation: int = 1


@dataclass(frozen=True, slots=True)
class Depthwise:
    """A depthwise convolution's hyper-parameters; it has no bias."""

    kernel: int = 3
    stride: int = 1
    padding: Padding = "same"


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling's hyper-parameters; "zero" pads like SAME, but its zeros count as values."""

    kind: Literal["max", "average"] = "max"
    window: int = 3
    stride: int = 2
    padding: Literal["same", "valid", "zero"] = "same"


@dataclass(frozen=True, slots=True)
class Style:
    """Settings that the layers of one part of a network share."""

    activation: str
    batch_norm: BatchNormSpec
    squeeze: SqueezeSpec = field(default_factory=SqueezeSpec)
    padding: Padding = "same"


@dataclass(frozen=True, slots=True)
class Application:
    """A network of `keras.applications`: the name of its function, and the layers whose outputs are used.

    `padding` "same" pads the windows that the original does not.
    """

    function: str
    taps: tuple[str, ...]
    padding: Literal["own", "same"] = "own"


class Vocabulary(ABC, Generic[Tensor]):
    """The operations of a network; each implementation chooses what a tensor is."""

    @abstractmethod
    def size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of a feature map."""

    @abstractmethod
    def channels(self, x: Tensor) -> int:
        """Channels of a feature map."""

    def nominal(self, x: Tensor) -> int:
        """The map's channels without `[channels]`; the structure of a graph depends on these."""
        return self.channels(x)

    @abstractmethod
    def conv(self, x: Tensor, name: str, conv: Conv) -> Tensor:
        """A dense convolution."""

    @abstractmethod
    def depthwise(self, x: Tensor, name: str, depthwise: Depthwise) -> Tensor:
        """A depthwise convolution without bias."""

    @abstractmethod
    def separable(self, name: str, conv: Conv) -> Callable[[Tensor], Tensor]:
        """A separable convolution; calls on several maps share its weights."""

    @abstractmethod
    def batch_norm(self, x: Tensor, name: str, spec: BatchNormSpec) -> Tensor:
        """Batch normalisation over the channels."""

    @abstractmethod
    def activation(self, x: Tensor, name: str, kind: str) -> Tensor:
        """A pointwise non-linearity."""

    @abstractmethod
    def add(self, xs: Sequence[Tensor], name: str) -> Tensor:
        """The sum of equally shaped maps, added in order."""

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
    def pool(self, x: Tensor, name: str, pool: Pool) -> Tensor:
        """The maximum or mean of each window."""

    @abstractmethod
    def shift(self, x: Tensor, name: str) -> Tensor:
        """The map moved up and left by one pixel, with zeros at the end."""

    @abstractmethod
    def concat(self, xs: Sequence[Tensor], name: str) -> Tensor:
        """Maps of one size concatenated along the channels."""

    @abstractmethod
    def take(self, x: Tensor, name: str, start: int, stop: int) -> Tensor:
        """The channels start..stop."""

    @abstractmethod
    def upsample(self, x: Tensor, name: str, size: tuple[int, int]) -> Tensor:
        """Nearest-neighbour upsampling to `size`, which is twice the input's or one less."""

    @abstractmethod
    def dropout(self, x: Tensor, name: str, rate: float, whole_sample: bool) -> Tensor:
        """Dropout of single values, or of whole samples (stochastic depth)."""

    @abstractmethod
    def drop_path(self, x: Tensor, name: str, keep: float) -> Tensor:
        """Drops whole samples; the share grows during training up to `1 - keep`."""

    @abstractmethod
    def drop_block(self, x: Tensor, name: str, keep: float, size: int) -> Tensor:
        """Drops squares of `size`; the kept share falls during training to `keep`."""

    @abstractmethod
    def flatten(self, x: Tensor, name: str) -> Tensor:
        """(B, H, W, C) to (B, H * W * C)."""

    @abstractmethod
    def dense(self, x: Tensor, name: str, units: int) -> Tensor:
        """A fully connected layer with bias."""

    @abstractmethod
    def transposed(self, x: Tensor, name: str, conv: Conv) -> Tensor:
        """A transposed convolution with "same" padding: `conv.stride` times the input's size."""

    @abstractmethod
    def crop(self, x: Tensor, name: str, size: tuple[int, int]) -> Tensor:
        """The upper left `size` pixels."""

    @abstractmethod
    def rows(self, xs: Sequence[Tensor], name: str, width: int) -> Tensor:
        """All maps flattened row-major to rows of `width` values and concatenated: (B, N, width)."""

    @abstractmethod
    def layer_norm(self, x: Tensor, name: str, epsilon: float) -> Tensor:
        """Layer normalisation over the channels."""

    @abstractmethod
    def application(
        self, x: Tensor, network: Application, widths: Mapping[str, int]
    ) -> list[tuple[Tensor, int]]:
        """The maps of `network.taps`, from the network that `keras.applications` builds on `x`.

        `widths` gives the layers whose width differs from Keras's. Each map comes with its channels without
        `widths`.
        """

    @abstractmethod
    def external(self, x: Tensor, taps: tuple[str, ...]) -> list[Tensor]:
        """The outputs of the layers `taps` of a custom Keras model."""


# Operations per value; Keras also calls swish silu.
ACTIVATION_OPERATIONS = {"swish": 2, "silu": 2, "hard_swish": 3, "hard_silu": 3}


@dataclass(frozen=True, slots=True)
class Counts:
    """Weights of a definition, and its multiply-adds and operations for one image.

    Papers commonly use two conventions:

    - MACs: multiply-adds of convolutions and dense layers; nothing else counts.
    - Operations, as TensorFlow's profiler counts them (the figures of the EfficientDet and EfficientNetV2
      authors are half of these): two per MAC, one per bias, sum, product, mean and pooling input, two per
      swish, three per hard swish, and 3k - 1 for a fast fusion of k maps. Batch normalisation is folded in an
      artifact and counts nothing; neither do ReLU, sigmoid and softmax.
    """

    trainable: int
    total: int
    macs: int
    operations: int


def conv_norm_act(
    net: Vocabulary[Tensor], x: Tensor, name: str, conv: Conv, style: Style, *, act: bool = True
) -> Tensor:
    """Convolution, batch normalisation and, unless `act` is false, the activation."""
    x = net.conv(x, f"{name}_conv", conv)
    x = net.batch_norm(x, f"{name}_bn", style.batch_norm)
    return net.activation(x, f"{name}_act", style.activation) if act else x


def symmetric(kernel: int | tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The rows and columns that "symmetric" padding adds before and after."""
    rows, columns = (side // 2 for side in pair(kernel))
    return ((rows, rows), (columns, columns))


def pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    """A kernel or stride as one number per axis."""
    return (sides, sides) if isinstance(sides, int) else sides


def concatenated(
    maps: Sequence[Tensor], name: str, concat: Callable[[Sequence[Tensor], str], Tensor]
) -> Tensor:
    """Concatenates maps, at most five at a time; the last call is named `name`, and one map is unchanged."""
    parts = [maps[start : start + MOST_CONCATENATED] for start in range(0, len(maps), MOST_CONCATENATED)]
    if len(parts) == 1:
        return maps[0] if len(maps) == 1 else concat(maps, name)
    first = [concatenated(part, f"{name}_part{index}", concat) for index, part in enumerate(parts)]
    return concatenated(first, name, concat)
