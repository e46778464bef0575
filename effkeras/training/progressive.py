"""Progressive resizing: a training in stages whose images grow (EfficientNetV2, Tan & Le 2021, section 4.2).

Small images make the first stages fast; with them, augmentation and dropout are weaker. All stages train the
same weights: the model of a stage has the layers of the whole model, on an input of another size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from effkeras.data.augmentations import AugmentSpec
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table, TableValue, plain

if TYPE_CHECKING:
    import keras

# The sides of a stage's images are multiples of this; those of the last stage are the model's.
MULTIPLE = 32
HEAD_DROPOUT = "head_dropout"  # the layer's name in every kind of classifier


@dataclass(frozen=True, slots=True)
class Amounts(TableValue):
    """Amounts of augmentations by name, as in `[augment]`."""

    by_name: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str) -> Self:
        """Reads the amounts. Raises EffkerasError for an unknown name or an invalid amount."""
        AugmentSpec.from_table(table, where)
        return cls(dict(table))

    def to_table(self) -> Table:
        """The amounts as a plain table."""
        return dict(self.by_name)


@dataclass(frozen=True, slots=True)
class Progressive:
    """How a training grows: in `stages` of equal length, from the values here to those of the other settings.

    `size` is the shorter side of the first stage's images in pixels. `dropout` is the share of a classifier's
    last features that the first stage drops; None for no change. `augment` has the first stage's amounts of
    augmentations, those that change.
    """

    size: int
    stages: int = 4
    dropout: float | None = None
    augment: Amounts = field(default_factory=Amounts)

    def stage_after(self, share: float) -> int:
        """The number of the stage, from 0, after a share of the training."""
        return min(int(share * self.stages), self.stages - 1)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage trains with; its `dropout` is None for that of the model."""

    spec: ModelSpec
    augment: AugmentSpec
    dropout: float | None = None


def stages_of(progressive: Progressive | None, spec: ModelSpec, augment: AugmentSpec) -> tuple[Stage, ...]:
    """The stages of a training of the model `spec`, which ends with the augmentation `augment`.

    Raises EffkerasError for stages that the model cannot have.
    """
    whole = Stage(spec, augment)
    if progressive is None:
        return (whole,)
    _check(progressive, spec)
    shares = [number / (progressive.stages - 1) for number in range(progressive.stages)]
    made = [_stage(progressive, whole, share) for share in shares]
    return (*made[:-1], replace(made[-1], spec=spec))


def sized(model: keras.Model, own: keras.Model) -> keras.Model:
    """The model `own` with the layers of `model`, and so its weights, where they have any.

    Both are built from one definition, for images of different sizes. Raises EffkerasError if weights depend
    on the size.
    """
    import keras

    from effkeras.graph.functional import deep_graphs

    known = {layer.name: layer for layer in model.layers if layer.variables}
    for layer in own.layers:
        if layer.variables and (layer.name not in known or _shapes(layer) != _shapes(known[layer.name])):
            raise EffkerasError(
                f"the layer {layer.name!r} has other weights for images of another size, so this model "
                "cannot train by [progressive]"
            )
    with deep_graphs():
        return keras.models.clone_model(own, clone_function=lambda layer: known.get(layer.name, layer))


def set_dropout(model: keras.Model, share: float) -> None:
    """Sets the share that a classifier's head drops, for functions that are traced from now on."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.name == HEAD_DROPOUT:
            layer.rate = share


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in layer.variables]


def _check(progressive: Progressive, spec: ModelSpec) -> None:
    smallest = min(spec.input.size)
    if not MULTIPLE <= progressive.size < smallest:
        raise EffkerasError(
            f"[progressive] size is the first stage's, from {MULTIPLE} to below the {smallest} pixels of "
            f"{spec.name}, not {progressive.size}"
        )
    if progressive.stages < 2:
        raise EffkerasError(f"[progressive] stages must be 2 or more, not {progressive.stages}")
    if progressive.dropout is not None and not 0 <= progressive.dropout < 1:
        raise EffkerasError(f"[progressive] dropout must lie between 0 and 1, not {progressive.dropout}")
    own = 0.0 if spec.is_detector else spec.network.regularizers().get("dropout", 0.0)
    if progressive.dropout is not None and not own:
        raise EffkerasError(f"[progressive] dropout grows to that of the model, and {spec.name} has none")
    if spec.network.needs_model or (not spec.is_detector and spec.network.auxiliary_weight):
        raise EffkerasError(
            f"[progressive] builds the model for several sizes, which does not go with "
            f"{'a backbone of your own' if spec.network.needs_model else 'an auxiliary head'}"
        )


def _stage(progressive: Progressive, whole: Stage, share: float) -> Stage:
    """The stage at a share, 0 to 1, of the way to the last one."""
    spec = whole.spec
    shorter = progressive.size + (min(spec.input.size) - progressive.size) * share
    factor = shorter / min(spec.input.size)
    size = [max(1, round(side * factor / MULTIPLE)) * MULTIPLE for side in spec.input.size]
    amounts = {
        name: _between(start, plain(whole.augment[name]), share, name)
        for name, start in progressive.augment.by_name.items()
    }
    augment = AugmentSpec.from_table({**whole.augment.to_table(), **amounts}, "[progressive]")
    dropout = None
    if progressive.dropout is not None:
        dropout = _between(progressive.dropout, spec.network.regularizers()["dropout"], share, "dropout")
    return Stage(with_size(spec, size), augment, dropout)


def _between(start: Any, end: Any, share: float, name: str) -> Any:
    """An amount at a share of the way between two: numbers, or lists of them."""
    if isinstance(start, list) and isinstance(end, list) and len(start) == len(end):
        return [_between(one, other, share, name) for one, other in zip(start, end, strict=True)]
    if start == end:
        return end
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (start, end)):
        raise EffkerasError(
            f"[progressive] {name} cannot grow from {start!r} to {end!r}: these are no numbers"
        )
    made = start + (end - start) * share
    return round(made) if isinstance(start, int) and isinstance(end, int) else made
