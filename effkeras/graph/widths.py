"""Layer widths from a definition's `[channels]`: wraps a vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from effkeras.definitions.networks import BatchNormSpec
from effkeras.graph.vocabulary import Application, Conv, Depthwise, Pool, Tensor, Vocabulary
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, slots=True)
class Wide(Generic[Tensor]):
    """A tensor, and the channels that it would have without `[channels]`."""

    tensor: Tensor
    nominal: int


@dataclass(frozen=True, slots=True)
class Widths(Vocabulary[Wide[Tensor]], Generic[Tensor]):
    """The operations of `net`; `widths` may change the width of any layer that creates channels.

    The graph's structure depends on the nominal widths, so a changed width that happens to equal another adds
    no shortcut and removes no projection.
    """

    net: Vocabulary[Tensor]
    widths: Mapping[str, int]

    def start(self, x: Tensor) -> Wide[Tensor]:
        """The network's input, whose width does not change."""
        return self._same(x)

    def end(self, x: Wide[Tensor], name: str) -> Tensor:
        """The output of the layer `name`; EffkerasError if `[channels]` changed its width."""
        if self.net.channels(x.tensor) != x.nominal:
            raise EffkerasError(f"[channels] cannot change {name!r}; its width follows others")
        return x.tensor

    def size(self, x: Wide[Tensor]) -> tuple[int, int]:
        """Height and width of a feature map."""
        return self.net.size(x.tensor)

    def channels(self, x: Wide[Tensor]) -> int:
        """The map's actual channels."""
        return self.net.channels(x.tensor)

    def nominal(self, x: Wide[Tensor]) -> int:
        """Channels that the map would have without `[channels]`."""
        return x.nominal

    def conv(self, x: Wide[Tensor], name: str, conv: Conv) -> Wide[Tensor]:
        """A dense convolution with its width from `widths`."""
        return Wide(self.net.conv(x.tensor, name, self._conv(name, conv)), conv.filters)

    def separable(self, name: str, conv: Conv) -> Callable[[Wide[Tensor]], Wide[Tensor]]:
        """A separable convolution with its width from `widths`."""
        layer = self.net.separable(name, self._conv(name, conv))
        return lambda x: Wide(layer(x.tensor), conv.filters)

    def transposed(self, x: Wide[Tensor], name: str, conv: Conv) -> Wide[Tensor]:
        """A transposed convolution with its width from `widths`."""
        return Wide(self.net.transposed(x.tensor, name, self._conv(name, conv)), conv.filters)

    def dense(self, x: Wide[Tensor], name: str, units: int) -> Wide[Tensor]:
        """A fully connected layer with its width from `widths`."""
        return Wide(self.net.dense(x.tensor, name, self.widths.get(name, units)), units)

    def depthwise(self, x: Wide[Tensor], name: str, depthwise: Depthwise) -> Wide[Tensor]:
        """A depthwise convolution without bias."""
        return Wide(self.net.depthwise(x.tensor, name, depthwise), x.nominal)

    def batch_norm(self, x: Wide[Tensor], name: str, spec: BatchNormSpec) -> Wide[Tensor]:
        """Batch normalisation over the channels."""
        return Wide(self.net.batch_norm(x.tensor, name, spec), x.nominal)

    def layer_norm(self, x: Wide[Tensor], name: str, epsilon: float) -> Wide[Tensor]:
        """Layer normalisation over the channels."""
        return Wide(self.net.layer_norm(x.tensor, name, epsilon), x.nominal)

    def activation(self, x: Wide[Tensor], name: str, kind: str) -> Wide[Tensor]:
        """A pointwise non-linearity."""
        return Wide(self.net.activation(x.tensor, name, kind), x.nominal)

    def add(self, xs: Sequence[Wide[Tensor]], name: str) -> Wide[Tensor]:
        """The sum of equally shaped maps, added in order."""
        return Wide(self.net.add([x.tensor for x in xs], name), xs[0].nominal)

    def fuse(self, xs: Sequence[Wide[Tensor]], name: str) -> Wide[Tensor]:
        """Fast normalised fusion."""
        return Wide(self.net.fuse([x.tensor for x in xs], name), xs[0].nominal)

    def multiply(self, x: Wide[Tensor], gate: Wide[Tensor], name: str) -> Wide[Tensor]:
        """A map times one factor per channel."""
        return Wide(self.net.multiply(x.tensor, gate.tensor, name), x.nominal)

    def mean(self, x: Wide[Tensor], name: str) -> Wide[Tensor]:
        """The mean over height and width, both kept as 1."""
        return Wide(self.net.mean(x.tensor, name), x.nominal)

    def pool(self, x: Wide[Tensor], name: str, pool: Pool) -> Wide[Tensor]:
        """The maximum or mean of each window."""
        return Wide(self.net.pool(x.tensor, name, pool), x.nominal)

    def shift(self, x: Wide[Tensor], name: str) -> Wide[Tensor]:
        """The map moved up and left by one pixel."""
        return Wide(self.net.shift(x.tensor, name), x.nominal)

    def concat(self, xs: Sequence[Wide[Tensor]], name: str) -> Wide[Tensor]:
        """Maps concatenated along the channels."""
        return Wide(self.net.concat([x.tensor for x in xs], name), sum(x.nominal for x in xs))

    def take(self, x: Wide[Tensor], name: str, start: int, stop: int) -> Wide[Tensor]:
        """The channels start..stop of the map's actual channels."""
        return self._same(self.net.take(x.tensor, name, start, stop))

    def upsample(self, x: Wide[Tensor], name: str, size: tuple[int, int]) -> Wide[Tensor]:
        """Nearest-neighbour upsampling."""
        return Wide(self.net.upsample(x.tensor, name, size), x.nominal)

    def crop(self, x: Wide[Tensor], name: str, size: tuple[int, int]) -> Wide[Tensor]:
        """The upper left `size` pixels."""
        return Wide(self.net.crop(x.tensor, name, size), x.nominal)

    def dropout(self, x: Wide[Tensor], name: str, rate: float, whole_sample: bool) -> Wide[Tensor]:
        """Dropout of single values, or of whole samples."""
        return Wide(self.net.dropout(x.tensor, name, rate, whole_sample), x.nominal)

    def drop_path(self, x: Wide[Tensor], name: str, keep: float) -> Wide[Tensor]:
        """Drops whole samples, more and more during training."""
        return Wide(self.net.drop_path(x.tensor, name, keep), x.nominal)

    def drop_block(self, x: Wide[Tensor], name: str, keep: float, size: int) -> Wide[Tensor]:
        """Drops squares, more and more during training."""
        return Wide(self.net.drop_block(x.tensor, name, keep, size), x.nominal)

    def flatten(self, x: Wide[Tensor], name: str) -> Wide[Tensor]:
        """(B, H, W, C) to (B, H * W * C)."""
        height, width = self.size(x)
        return Wide(self.net.flatten(x.tensor, name), height * width * x.nominal)

    def rows(self, xs: Sequence[Wide[Tensor]], name: str, width: int) -> Wide[Tensor]:
        """All maps flattened to rows of `width` values; `[channels]` may not have changed their widths."""
        return Wide(self.net.rows([self.end(x, name) for x in xs], name, width), width)

    def application(
        self, x: Wide[Tensor], network: Application, widths: Mapping[str, int]
    ) -> list[tuple[Wide[Tensor], int]]:
        """The maps of `network.taps`, each with its channels without widths."""
        maps = self.net.application(x.tensor, network, {**widths, **self.widths})
        return [(Wide(one, nominal), nominal) for one, nominal in maps]

    def external(self, x: Wide[Tensor], taps: tuple[str, ...]) -> list[Wide[Tensor]]:
        """The outputs of the layers `taps`; a custom model keeps its widths."""
        return [self._same(one) for one in self.net.external(x.tensor, taps)]

    def _same(self, x: Tensor) -> Wide[Tensor]:
        return Wide(x, self.net.channels(x))

    def _conv(self, name: str, conv: Conv) -> Conv:
        return dataclasses.replace(conv, filters=self.widths.get(name, conv.filters))
