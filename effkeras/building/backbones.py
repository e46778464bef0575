"""Definitions of detectors on other backbones: any network of the zoo, or a custom Keras model.

Importing this module loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.definitions import zoo
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.definitions.networks import Network
from effkeras.graph.networks.external import ExternalNetwork
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    import keras

Rgb = tuple[float, float, float]


@dataclass(frozen=True, eq=False, slots=True)
class TappedModel:
    """A functional Keras model and the layers whose outputs are its last maps of stride 8, 16 and 32.

    The detector gets copies of its layers and weights, flattened and renamed to `backbone_...`; the model
    itself does not change. The copies receive `(pixels - mean) / std` of RGB pixels 0..255; the defaults pass
    the pixels unchanged, for models that normalise them.

    Args:
        model: takes one image, (B, H, W, 3).
        taps: layer names by level, from 3 on: `{3: "c3", 4: "c4", 5: "c5"}`. Default: the layers that a
            KerasCV backbone names; else the model's outputs, a dict with levels as keys ("P3", 3) or a list.
        mean: per-channel mean on the 0..255 scale.
        std: per-channel standard deviation on the 0..255 scale.
    """

    model: keras.Model
    taps: Mapping[int, str] | None = None
    mean: Rgb = (0.0, 0.0, 0.0)
    std: Rgb = (1.0, 1.0, 1.0)


# A name, a file, a definition, a keras.Model or a TappedModel; the exact type would import Keras.
Backbone = Any


def spec_with_backbone(name_or_path: str | Path, backbone: str | Path | None) -> ModelSpec:
    """The definition by name or path, on another backbone if one is given."""
    spec = zoo.spec(name_or_path)
    return spec if backbone is None else with_backbone(spec, backbone)


def with_backbone(spec: ModelSpec, backbone: str | Path | ModelSpec) -> ModelSpec:
    """The same detector on the network of another model.

    Pixels are normalised as that network's weights expect. The result has no official checkpoints and
    figures. Windows that would leave out an image's border pad it instead, so that the maps of all levels
    fit the pyramid; the weights stay the same.

    Args:
        spec: a detector.
        backbone: a zoo name, a TOML file, or a definition.

    Raises:
        EffkerasError: there is no such backbone, or `spec` is not a detector.
    """
    source = backbone if isinstance(backbone, ModelSpec) else zoo.spec(backbone)
    channels = _channels(spec, source)
    name = (source.backbone if source.is_detector else "") or source.name
    return _hybrid(spec, name, source.network.for_pyramid(), source.input).replace(channels=channels)


def with_taps(spec: ModelSpec, tapped: TappedModel, taps: tuple[str, ...]) -> ModelSpec:
    """The same detector on a Keras model; building it needs that model as well as the definition."""
    pixels = dataclasses.replace(spec.input, mean=tapped.mean, std=tapped.std)
    return _hybrid(spec, tapped.model.name, ExternalNetwork(taps), pixels)


def _hybrid(spec: ModelSpec, name: str, network: Network, pixels: InputSpec) -> ModelSpec:
    if not spec.is_detector:
        raise EffkerasError(f"{spec.name} is not a detector; another backbone goes with one, such as d0")
    return spec.replace(
        name=f"{spec.name}-{name}",
        summary=f"{spec.summary or spec.name} on {name}",
        backbone=name,
        network=network,
        input=dataclasses.replace(spec.input, mean=pixels.mean, std=pixels.std),
        channels={},
        published=None,
        weights={},
    )


def _channels(spec: ModelSpec, source: ModelSpec) -> dict[str, int]:
    """Overridden widths: those of the source's network, and of the detector's pyramid and heads."""
    from effkeras.graph.counting import backbone_layers

    if not spec.channels and not source.channels:
        return {}
    theirs, ours = backbone_layers(source), backbone_layers(spec)
    network = {name: width for name, width in source.channels.items() if name in theirs}
    return network | {name: width for name, width in spec.channels.items() if name not in ours}
