"""Units and groups of channels for pruning.

A unit is a set of channels that can only be removed together. Units that pass through the same layers form
a group. Any unit of a group may be removed: the cost depends only on how many stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.channel_flow import Flow, LayerFlow, Numbers, channel_flow
from effkeras.graph.functional import Config, CopyRules
from effkeras.graph.keras_applications import narrowed
from effkeras.graph.rewrite import copied
from effkeras.layers import Normalize
from effkeras.support.errors import EffkerasError


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Units that pass through the same layers; `why` is the reason why all must stay, or empty."""

    units: Numbers
    why: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Channels:
    """The channels of a flat functional model; `unit` holds the unit of each channel number."""

    flow: Flow
    unit: Numbers
    groups: tuple[Group, ...]

    @property
    def makers(self) -> list[tuple[LayerFlow, Numbers]]:
        """The layers that make channels, each with the channels it makes."""
        return [(one, one.made) for one in self.flow.layers.values() if one.made is not None]

    @property
    def free(self) -> list[int]:
        """The indices of the groups that may be pruned."""
        return [index for index, group in enumerate(self.groups) if not group.why]

    @property
    def sizes(self) -> np.ndarray:
        """The number of units in each group, (G,)."""
        return np.array([len(group.units) for group in self.groups])

    @property
    def group_of_numbers(self) -> Numbers:
        """The group of each channel number."""
        group = np.empty(int(self.unit.max()) + 1, int)
        for index, one in enumerate(self.groups):
            group[one.units] = index
        return group[self.unit]

    def why_locked(self, numbers: Numbers) -> str:
        """Why these channels must stay; empty where at lowest some may be removed."""
        units = self.unit[numbers]
        reasons = [group.why for group in self.groups if np.isin(group.units, units).any()]
        return reasons[0] if all(reasons) else ""


def find_channels(model: keras.Model, locked: Mapping[str, str]) -> Channels:
    """The channels of a flat functional model; `locked` maps names of layers that keep theirs to reasons."""
    flow = channel_flow(model)
    unit = _components(flow)
    locks = [*flow.locks, *_named_locks(flow, locked)]
    return Channels(flow, unit, _groups(flow, unit, locks))


def locked_by(names: Sequence[str], skip: Sequence[str]) -> dict[str, str]:
    """The layers that match a regular expression in `skip`, each with the reason.

    Raises EffkerasError for an invalid regular expression.
    """
    for one in skip:
        try:
            re.compile(one)
        except re.error as error:
            raise EffkerasError(
                f"channels: skip = {one!r} is not a valid regular expression: {error}"
            ) from error
    found = {name: next((one for one in skip if re.search(one, name)), None) for name in names}
    return {name: f"skip = {one!r}" for name, one in found.items() if one is not None}


def _named_locks(flow: Flow, locked: Mapping[str, str]) -> list[tuple[Numbers, str]]:
    made = {name: one.made for name, one in flow.layers.items() if one.made is not None}
    return [(made[name], why) for name, why in locked.items() if name in made]


def _components(flow: Flow) -> Numbers:
    """The connected component of each channel, from 0: the smallest label spreads along the links."""
    label = np.arange(flow.count)
    ends = [np.concatenate(side) for side in zip(*flow.links, strict=True)] if flow.links else []
    while ends:
        before = label.copy()
        lowest = np.minimum(label[ends[0]], label[ends[1]])
        for end in ends:
            np.minimum.at(label, label[end], lowest)
            np.minimum.at(label, end, lowest)
        label = label[label]
        if np.array_equal(label, before):
            break
    return np.unique(label, return_inverse=True)[1]


def _groups(flow: Flow, unit: Numbers, locks: Sequence[tuple[Numbers, str]]) -> tuple[Group, ...]:
    reasons = [""] * (int(unit.max()) + 1)
    for numbers, why in reversed(locks):  # the first one wins
        for index in set(unit[numbers].tolist()):
            reasons[index] = why
    keys = _signatures(flow, unit)
    members: dict[tuple[int, str], list[int]] = {}
    for index, key in enumerate(keys.tolist()):
        members.setdefault((key, reasons[index]), []).append(index)
    return tuple(Group(np.array(units), why) for (_, why), units in members.items())


def _signatures(flow: Flow, unit: Numbers) -> np.ndarray:
    """For each unit, a hash of the calls it passes through, and how often."""
    random = np.random.default_rng(0)
    keys = np.zeros(int(unit.max()) + 1, np.uint64)
    for call in flow.calls:
        for numbers in (*call.inputs, call.output):
            factor = random.integers(1, 2**63, dtype=np.uint64)
            keys += factor * np.bincount(unit[numbers], minlength=len(keys)).astype(np.uint64)
    return keys


def without_channels(
    model: keras.Model, channels: Channels, stays: np.ndarray, definition: str = ""
) -> keras.Model:
    """A copy of a flat model with only the units that `stays`, bool (U,), marks, and their weights.

    `definition` replaces the model's definition, if the model carries one.
    """
    layers = channels.flow.layers
    left = stays[channels.unit]

    def change(layer: Any, config: Config) -> Config:
        config = _with_dtype(layer, config)
        if isinstance(layer, Normalize) and layer.definition and definition:
            return {**config, "definition": definition}
        flow = layers.get(layer.name)
        if flow is None or flow.width is None:
            return config
        return _narrowed(layer, config, int(left[flow.width].sum()))

    copy = copied(model, CopyRules(change=change))
    for layer in model.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(_sliced(layer, layers, left))
    return copy


def _with_dtype(layer: Any, config: Config) -> Config:
    """The config with the layer's own dtype policy: a network may mix policies."""
    if not isinstance(layer, keras.Layer):
        return config
    return {**config, "dtype": layer.get_config()["dtype"]}


def _narrowed(layer: Any, config: Config, width: int) -> Config:
    if isinstance(layer, keras.layers.Reshape):
        return {**config, "target_shape": (*layer.target_shape[:-1], width)}
    return narrowed(config, width)


def _sliced(layer: Any, layers: Mapping[str, LayerFlow], left: np.ndarray) -> list[np.ndarray]:
    """The layer's weights without the removed channels."""
    values = layer.get_weights()
    flow = layers.get(layer.name)
    for one in flow.slices if flow else ():
        values[one.weight] = np.compress(left[one.numbers], values[one.weight], axis=one.axis)
    return values
