"""Augmentations: random changes of training images, each a class that registers itself.

    @AUGMENTATIONS.register("fade")
    @dataclass(frozen=True)
    class Fade(Augmentation):
        amount: float = 0.0

        def recolor(self, draws):
            return Recolor(factor=1 - self.amount * draws[:, None, None, 0:1])

The table `[augment]` of a training then accepts the key `fade`. The modules load TensorFlow only to change
images, so reading settings does not need it. `effkeras.data.augment` applies augmentations.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.registry import Registry
from effkeras.support.tables import Table, TableValue, convert, plain

if TYPE_CHECKING:
    import tensorflow as tf

AUGMENTATIONS: Registry[type[Augmentation]] = Registry("augmentation", "effkeras.data.augmentations")


class Move(NamedTuple):
    """Output pixel = input pixel * scale + offset, per image and axis: each (B, 2) as y, x."""

    scale: tf.Tensor
    offset: tf.Tensor

    def then(self, other: Move) -> Move:
        """This move followed by another one."""
        return Move(self.scale * other.scale, self.offset * other.scale + other.offset)


class Recolor(NamedTuple):
    """Output colour = (input colour - mean of the image) * factor + mean + shift.

    Each is a number or has the shape (B, 1, 1, 1) or (B, 1, 1, 3).
    """

    factor: tf.Tensor | float = 1.0
    shift: tf.Tensor | float = 0.0

    def then(self, other: Recolor) -> Recolor:
        """Both changes; their order does not matter."""
        return Recolor(self.factor * other.factor, self.shift + other.shift)


@dataclass(frozen=True)
class Augmentation:
    """One random change. A subclass has a field `amount` with a default, and one of the three methods.

    All moves of an image are combined into one resampling and all recolourings into one pass. The default of
    a new augmentation should change nothing, so that trainings without its key stay the same.

    Each image gets `draws` random numbers in 0..1. They come from the augmentation's own stream, seeded by
    the image's seed and the augmentation's name, or, where `shared` is set, from that slice of the stream
    that the first augmentations share. Moves are applied in the order of `rank`.
    """

    draws: ClassVar[int] = 1
    shared: ClassVar[slice | None] = None
    rank: ClassVar[int] = 100

    amount: Any

    def move(self, draws: tf.Tensor, size: tuple[int, int]) -> Move | None:
        """How images of `size` (height, width), boxes and label maps move; draws are (B, draws)."""
        return None

    def recolor(self, draws: tf.Tensor) -> Recolor | None:
        """How colours change; draws are (B, draws)."""
        return None

    def change(self, pixels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Any other change of float32 pixels (B, H, W, 3) in 0..255; seeds are int32 (B, 2)."""
        return pixels


@dataclass(frozen=True, slots=True, init=False)
class AugmentSpec(TableValue):
    """The augmentations of training images: each registered augmentation by name, with its amount."""

    by_name: tuple[tuple[str, Augmentation], ...]

    def __init__(self, amounts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Takes amounts by name; the other augmentations get their default."""
        _check_names(amounts, "augment")
        made = [
            (name, kind(amounts[name]) if name in amounts else kind())  # type: ignore[call-arg]
            for name, kind in AUGMENTATIONS.entries().items()
        ]
        object.__setattr__(self, "by_name", tuple(sorted(made, key=lambda entry: entry[1].rank)))

    def __getitem__(self, name: str) -> Any:
        """The amount of an augmentation."""
        return dict(self.by_name)[name].amount

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str) -> Self:
        """Reads a table of amounts. Raises EffkerasError for an unknown name or an amount of another type."""
        _check_names(table, where)
        return cls(
            {
                name: convert(_amount_type(AUGMENTATIONS.get(name)), value, f"{where}: {name}")
                for name, value in table.items()
            }
        )

    def to_table(self) -> Table:
        """The amounts as a plain table."""
        return {name: plain(one.amount) for name, one in self.by_name}


def _check_names(amounts: Mapping[str, Any], where: str) -> None:
    known = AUGMENTATIONS.entries()
    for name in amounts:
        if name not in known:
            raise EffkerasError(f"{where}: unknown key {name!r}; {did_you_mean(name, known)}")


def _amount_type(kind: type[Augmentation]) -> Any:
    return typing.get_type_hints(kind, localns={"tf": None})["amount"]
