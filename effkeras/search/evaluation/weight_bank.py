"""The weights that all networks of a space share: of each the largest version, of which paths take a part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from effkeras.blocks import decode
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.graph.counting import weight_shapes
from effkeras.networks import BlockNetwork
from effkeras.scaling import scale_stages

# Layer and weight.
Name = tuple[str, str]
Shape = tuple[int, ...]
_BLOCK = re.compile(r"block(\d+)(?=_)")
_CONSTANT = {"gamma": 1.0, "beta": 0.0, "bias": 0.0}


def shared_names(spec: ModelSpec) -> Callable[[str], str]:
    """From a layer's name to the one under which its weights are shared.

    Blocks are counted through a network, so that one more block in front renames all that follow. Shared are
    blocks of the same place: resolution, stage within it, and repeat.

    Raises EffkerasError for a model that is no classifier of MBConv blocks.
    """
    if spec.is_detector or not isinstance(spec.network, BlockNetwork):
        raise EffkerasError(f"{spec.name} is no classifier of MBConv blocks, and a supernet is made of these")
    places = _places(spec.network)
    return lambda name: _BLOCK.sub(lambda match: places[int(match[1])], name)


def _places(network: BlockNetwork) -> list[str]:
    places: list[str] = []
    level, nth = 1, 0
    for stage in scale_stages(network, [decode(text) for text in network.blocks]):
        level, nth = (level + 1, 0) if stage.stride == 2 else (level, nth + 1)
        places += [f"level{level}_stage{nth}_repeat{repeat}" for repeat in range(stage.repeats)]
    return places


def shared_shapes(spec: ModelSpec) -> dict[Name, Shape]:
    """The shapes of a network's trainable weights, by their shared names."""
    rename = shared_names(spec)
    shapes = weight_shapes(spec)
    return {
        (rename(layer), weight): shape
        for (layer, weight), shape in shapes.items()
        if not weight.startswith("moving")
    }


class WeightBank:
    """One variable for each weight, as large as any of the networks has it."""

    def __init__(self, specs: Iterable[ModelSpec]):
        largest: dict[Name, Shape] = {}
        for spec in specs:
            for name, shape in shared_shapes(spec).items():
                known = largest.get(name, shape)
                largest[name] = tuple(map(max, known, shape))
        self._weights = {name: _start(name, shape) for name, shape in sorted(largest.items())}

    @property
    def variables(self) -> list[tf.Variable]:
        """All of them, always in the same order."""
        return list(self._weights.values())

    @property
    def names(self) -> list[Name]:
        """Their layers and weights, in the same order."""
        return list(self._weights)

    def part(self, name: Name, shape: Shape) -> tf.Tensor:
        """A weight in the shape in which a path has it.

        The first channels of each axis, and the middle of a convolution's window (Cai et al. 2020,
        "Once-for-all", without its transformation of kernels).

        Raises EffkerasError when the path is larger than any network that the bank was made for.
        """
        variable = self._weights.get(name)
        if variable is None or any(part > whole for part, whole in zip(shape, variable.shape, strict=True)):
            raise EffkerasError(
                f"the supernet has no {'.'.join(name)} of {shape}: its networks were drawn at random, "
                "and this one is larger than all of them"
            )
        if tuple(variable.shape) == shape:
            return variable.value()
        return variable[_window(shape, tuple(variable.shape))]


def _window(part: Shape, whole: Shape) -> tuple[slice, ...]:
    """The middle of a convolution's window, the first of all channels."""
    middle = 2 if len(part) == 4 else 0
    starts = [
        (b - a) // 2 if axis < middle else 0 for axis, (a, b) in enumerate(zip(part, whole, strict=True))
    ]
    return tuple(slice(start, start + length) for start, length in zip(starts, part, strict=True))


def _start(name: Name, shape: Shape) -> tf.Variable:
    if name[1] in _CONSTANT:
        return tf.Variable(tf.fill(shape, _CONSTANT[name[1]]), name=name[1])
    scale = (2.0, "fan_out", "untruncated_normal") if len(shape) == 4 else (1 / 3, "fan_out", "uniform")
    return tf.Variable(keras.initializers.VarianceScaling(*scale)(shape), name=name[1])
