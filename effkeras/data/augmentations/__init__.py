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

import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from effkeras.data.augmentations.batches import Batch
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.registry import Registry
from effkeras.support.tables import Table, TableValue, convert, plain, read_toml

if TYPE_CHECKING:
    import tensorflow as tf

AUGMENTATIONS: Registry[type[Augmentation]] = Registry("augmentation", "effkeras.data.augmentations")

PRESET = "preset"  # the key of [augment] that names a preset


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
    """One random change. A subclass has a field `amount` with a default, and one of the four methods.

    All moves of an image are combined into one resampling and all recolourings into one pass; then images are
    mixed, and last come the other changes. The default of a new augmentation changes nothing, so that
    trainings without its key stay the same; such an augmentation is left out.

    Each image gets `draws` random numbers in 0..1. They come from the augmentation's own stream, seeded by
    the image's seed and the augmentation's name, or, where `shared` is set, from that slice of the stream
    that the first augmentations share. Moves, mixtures and other changes are each in the order of `rank`.
    With `share` set, the amount must lie between 0 and 1. `per_image` says of one with a method `mix` that
    each image depends on itself alone.
    """

    draws: ClassVar[int] = 1
    shared: ClassVar[slice | None] = None
    rank: ClassVar[int] = 100
    share: ClassVar[bool] = False
    per_image: ClassVar[bool] = False

    amount: Any

    @property
    def is_off(self) -> bool:
        """Whether it surely changes nothing."""
        return self.shared is None and self == type(self)()  # type: ignore[call-arg]

    @property
    def softens(self) -> bool:
        """Whether it mixes classes, so that a classifier's targets are shares of them."""
        return False

    @property
    def mixes(self) -> bool:
        """Whether an image depends on the others of its batch."""
        return type(self).mix is not Augmentation.mix and not self.per_image and not self.is_off

    def problem(self) -> str:
        """What is wrong with the amount, as in "must lie between 0 and 1"; empty if nothing is."""
        return "must lie between 0 and 1" if self.share and not 0 <= self.amount <= 1 else ""

    def move(self, draws: tf.Tensor, size: tuple[int, int]) -> Move | None:
        """How images of `size` (height, width), boxes and label maps move; draws are (B, draws)."""
        return None

    def recolor(self, draws: tf.Tensor) -> Recolor | None:
        """How colours change; draws are (B, draws)."""
        return None

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """The batch after images, with their ground truth, were mixed; seeds are int32 (B, 2).

        `batch.frames` and `batch.visible` are set; what hides a part of a box multiplies `visible`. Frames
        are those before all mixtures.
        """
        return batch

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

    @property
    def softens(self) -> bool:
        """Whether a classifier's targets become shares of classes, float32 (B, C)."""
        return any(one.softens for _, one in self.by_name)

    @property
    def mixes(self) -> bool:
        """Whether images depend on the others of their batch."""
        return any(one.mixes for _, one in self.by_name)

    def without_softening(self) -> AugmentSpec:
        """These augmentations without those that mix classes."""
        return AugmentSpec({name: one.amount for name, one in self.by_name if not one.softens})

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str) -> Self:
        """Reads a table of amounts, which may name a preset; its other keys override those of the preset.

        Raises EffkerasError for an unknown name, or an amount of another type or beyond its limits.
        """
        if PRESET in table:
            table = {**preset(table[PRESET], where), **table}
        amounts = {name: value for name, value in table.items() if name != PRESET}
        _check_names(amounts, where)
        spec = cls(
            {
                name: convert(_amount_type(AUGMENTATIONS.get(name)), value, f"{where}: {name}")
                for name, value in amounts.items()
            }
        )
        for name, one in spec.by_name:
            if problem := one.problem():
                raise EffkerasError(f"{where}: {name} {problem}, not {plain(one.amount)}")
        return spec

    def to_table(self) -> Table:
        """The amounts as a plain table."""
        return {name: plain(one.amount) for name, one in self.by_name}


def preset_names() -> tuple[str, ...]:
    """The names of the presets, from the weakest on."""
    return tuple(_presets())


def preset(name: str, where: str) -> Table:
    """The amounts of a preset. Raises EffkerasError, naming `where`, for an unknown one."""
    if not isinstance(name, str) or name not in _presets():
        known = ", ".join(_presets())
        raise EffkerasError(f"{where}: there is no preset {name!r} of augmentations; there are {known}")
    return dict(_presets()[name])


@functools.cache
def _presets() -> Table:
    return read_toml(Path(__file__).with_name("presets.toml"))


def _check_names(amounts: Mapping[str, Any], where: str) -> None:
    known = AUGMENTATIONS.entries()
    for name in amounts:
        if name not in known:
            raise EffkerasError(f"{where}: unknown key {name!r}; {did_you_mean(name, known)}")


def _amount_type(kind: type[Augmentation]) -> Any:
    return typing.get_type_hints(kind, localns={"tf": None})["amount"]
