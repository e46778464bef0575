"""Channel pruning: a network with fewer channels, smaller and faster in any runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np

from effkeras.graph.channel_flow import Numbers
from effkeras.graph.counting import run_over_shapes
from effkeras.graph.functional import calls_of
from effkeras.graph.keras_counting import count_layers
from effkeras.graph.keras_net import EXTERNAL, external_name
from effkeras.graph.networks.external import ExternalNetwork
from effkeras.graph.rewrite import check_finite, flat
from effkeras.layers.normalize import definition_in
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from quantize.channels.costs import MACS, TIME, costs_of
from quantize.channels.groups import Channels, find_channels, locked_by, without_channels
from quantize.channels.importance import LabelledBatches, by_norm, by_scale, by_taylor
from quantize.channels.search import Ranking, Removal, Search, after, chosen, restored, weights_of
from quantize.report import Compressed, LayerReport, StepReport
from quantize.specs import ChannelSpec

if TYPE_CHECKING:
    from effkeras.data.records import LabelledData
    from effkeras.definitions.definition import ModelSpec

STEP = "channels"
ERROR_IS = "share of importance removed"


def prune_channels(
    model: keras.Model, spec: ChannelSpec, data: LabelledBatches | LabelledData | None = None
) -> Compressed:
    """Removes the least important channels until the cost is the share `spec.keep`; it does not train.

    Channels that depend on each other (both sides of a sum, a gate and the map it scales, a depthwise
    convolution and its input, a head's layer on all levels) are removed together. The others keep their
    weights. A model built by effkeras gets a definition whose `[channels]` list every narrowed layer, and
    `effkeras.build` makes the same network from it. Any other model becomes a plain functional model, with
    nested models made flat.

    Args:
        model: any functional Keras model with one input of fixed size; it is not changed.
        spec: the share to keep, and how channels are ranked. All channels are removed at once: to train in
            between, `spec.rounds` times, see `round_of`.
        data: for importance "taylor" only: batches of (pixels, targets) as the model's loss takes them, or
            labelled images for a model built by effkeras. Any other model must be compiled.

    Returns:
        The model and a report: for each layer that makes channels, its width before and after and the share
        of its importance that was removed; figures `macs_before`, `macs_after`, `parameters_before`,
        `parameters_after`, and with cost "latency" the measured `latency_ratio`.

    Raises:
        EffkerasError: the model is not functional, weights are NaN or infinite, a setting is out of range,
            the target cannot be reached, or data is missing.
    """
    check(spec)
    network = flat(model)
    check_finite(network)
    channels = find_channels(network, _locked(network, spec))
    pruning = _Pruning(network, channels, _ranking(model, channels, spec, data), spec)
    kept, figures = pruning.by_latency() if spec.cost == "latency" else pruning.by_macs()
    result = pruning.model(kept)
    return Compressed(result, _report(pruning, kept, figures | _figures(network, result)))


def round_of(spec: ChannelSpec) -> ChannelSpec:
    """The spec of one of several rounds: each round keeps the same share of its input model."""
    return dataclasses.replace(spec, keep=spec.keep ** (1 / spec.rounds), rounds=1)


def check(spec: ChannelSpec) -> None:
    """Raises EffkerasError for settings out of range."""
    if not 0 < spec.keep < 1:
        raise EffkerasError(f"channels: keep must lie between 0 and 1, not {spec.keep}; 0.5 halves the cost")
    for name in ("divisor", "smallest", "rounds"):
        if getattr(spec, name) < 1:
            raise EffkerasError(f"channels: {name} must be at least 1, not {getattr(spec, name)}")


@dataclass(frozen=True, eq=False, slots=True)
class _Pruning:
    """A network to prune, with its channels and their ranking."""

    network: keras.Model
    channels: Channels
    ranking: Ranking
    spec: ChannelSpec

    def model(self, kept: np.ndarray) -> keras.Model:
        """The network with `kept` units of each group."""
        stays = self.stays(kept)
        widths = narrowed_widths(self.channels, stays)
        return without_channels(self.network, self.channels, stays, _definition(self.network, widths))

    def stays(self, kept: np.ndarray) -> np.ndarray:
        return chosen(self.channels, self.ranking, kept)

    def by_macs(self) -> tuple[np.ndarray, dict[str, float]]:
        """The units to keep of each group for the wanted share of multiply-adds."""
        search, costs = Search(self.channels, self.ranking, self.spec), costs_of(self.channels, MACS)
        kept = self.channels.sizes
        goal, smallest = self.spec.keep * costs.total(kept), costs.total(search.smallest())
        if smallest > goal:
            raise EffkerasError(
                f"channels: {self.spec.keep:.0%} of the multiply-adds cannot be reached; with at least "
                f"{self.spec.smallest} channels in multiples of {self.spec.divisor}, "
                f"{smallest / costs.total(kept):.0%} is the least"
            )
        removals: list[Removal] = []
        for removal in search.steps():
            if costs.total(kept) <= goal:
                break
            kept[removal.group] = removal.left
            removals.append(removal)
        return restored(removals, self.channels.sizes, lambda some: costs.total(some) <= goal), {}

    def by_latency(self) -> tuple[np.ndarray, dict[str, float]]:
        """The units to keep of each group for the wanted share of the measured latency."""
        from effkeras.litert.convert import to_flatbuffer
        from quantize.channels.search import bisect, latency_ratio

        removals = list(Search(self.channels, self.ranking, self.spec).steps())
        before = to_flatbuffer(self.network)

        def measure(steps: int) -> float:
            return latency_ratio(before, self.model(after(removals[:steps], self.channels.sizes)))

        point = bisect(self._estimates(removals), self.spec.keep, measure)
        return after(removals[: point.steps], self.channels.sizes), {"latency_ratio": point.measured}

    def _estimates(self, removals: list[Removal]) -> np.ndarray:
        """The estimated share of the time after 0, 1, 2, ... removals."""
        costs, kept = costs_of(self.channels, TIME), self.channels.sizes
        totals = [costs.total(kept)]
        for removal in removals:
            kept[removal.group] = removal.left
            totals.append(costs.total(kept))
        return np.array(totals) / totals[0]


def narrowed_widths(channels: Channels, stays: np.ndarray) -> dict[str, int]:
    """The new width of every layer that loses channels."""
    left = {one.layer.name: stays[channels.unit[made]] for one, made in channels.makers}
    return {name: int(some.sum()) for name, some in left.items() if not some.all()}


def _locked(model: keras.Model, spec: ChannelSpec) -> dict[str, str]:
    names = [call.operation.name for call in calls_of(model)]
    return _taps(model) | locked_by(names, spec.skip)


def _taps(model: keras.Model) -> dict[str, str]:
    """The layers of an external model that a feature pyramid starts from, each with that reason."""
    own = definition_in(model)
    network = None if own is None else ExternalNetwork.match(own.network)
    if network is None:
        return {}
    return {external_name((tap,)): "the feature pyramid takes it" for tap in network.taps}


def _ranking(
    model: keras.Model,
    channels: Channels,
    spec: ChannelSpec,
    data: LabelledBatches | LabelledData | None,
) -> Ranking:
    is_absolute = spec.importance == "taylor"
    if is_absolute:
        values = _by_taylor(model, channels, data)
    else:
        values = by_norm(channels) if spec.importance == "l1" else by_scale(channels)
    return Ranking(values, weights_of(channels, values, absolute=is_absolute))


def _by_taylor(
    model: keras.Model, channels: Channels, data: LabelledBatches | LabelledData | None
) -> np.ndarray:
    from quantize.channels.importance import batches_of, loss_of

    return by_taylor(channels, loss_of(model), batches_of(model, data))


def _definition(model: keras.Model, widths: Mapping[str, int]) -> str:
    """The model's definition with these widths; empty if it has none, or its weights do not match it."""
    own = definition_in(model)
    if own is None:
        return ""
    if not _follows(model, own):
        note(f"{STEP}: the model is not what its definition builds, as after folding: keep the .keras file")
        return ""
    named = {name: width for name, width in widths.items() if not name.startswith(EXTERNAL)}
    return own.replace(channels={**own.channels, **named}, published=None, weights={}).to_toml()


def _follows(model: keras.Model, spec: ModelSpec) -> bool:
    """Whether a model's weights match its definition; those of a folded model do not."""
    if spec.network.needs_model:
        return True
    shapes = {(layer.name, one.name): tuple(one.shape) for layer in model.layers for one in layer.weights}
    return run_over_shapes(spec).shapes == shapes


def _report(pruning: _Pruning, kept: np.ndarray, figures: Mapping[str, float]) -> StepReport:
    stays = pruning.stays(kept)
    layers = tuple(_layer_report(one.layer, made, pruning, stays) for one, made in pruning.channels.makers)
    return StepReport(STEP, layers, ERROR_IS, figures)


def _layer_report(layer: keras.Layer, made: Numbers, pruning: _Pruning, stays: np.ndarray) -> LayerReport:
    channels, values = pruning.channels, pruning.ranking.units
    name, kind = layer.name, type(layer).__name__
    why = channels.why_locked(made)
    if why:
        return LayerReport(name, kind, "skipped", why)
    units = channels.unit[made]
    left = stays[units]
    lost = 1 - values[units[left]].sum() / max(values[units].sum(), 1e-12)
    return LayerReport(name, kind, "done", f"{len(left)} -> {left.sum()} channels", float(max(lost, 0)))


def _figures(before: keras.Model, result: keras.Model) -> dict[str, float]:
    old, new = count_layers(before), count_layers(result)
    return {
        "macs_before": old.macs,
        "macs_after": new.macs,
        "parameters_before": old.total,
        "parameters_after": new.total,
    }
