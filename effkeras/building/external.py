"""Builds on custom Keras models: a detector with one as its backbone, or a classifier."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from effkeras.building.backbones import Backbone, Rgb, TappedModel, with_backbone, with_taps
from effkeras.definitions.definition import InputSpec, ModelSpec, checked
from effkeras.definitions.zoo import saved_weights
from effkeras.graph.counting import backbone_layers
from effkeras.graph.functional import (
    CopyRules,
    Part,
    check_functional,
    copy_onto,
    deep_graphs,
    layer_path,
    maker,
    output_of,
    output_structure,
    whole_model,
)
from effkeras.graph.keras_net import EXTERNAL, external_name
from effkeras.graph.networks.external import ExternalNetwork
from effkeras.layers import Normalize
from effkeras.layers.normalize import definition_in
from effkeras.support.errors import EffkerasError
from effkeras.weights.keras_files import load

FIRST_LEVEL, LAST_LEVEL = 3, 5

Taps = Mapping[int, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Attached:
    """A detector's definition on a backbone, and the Keras model that it uses.

    `part` is built into the detector; `donor` is a model built by effkeras whose weights are copied; `file`
    is where one of them was saved.
    """

    spec: ModelSpec
    part: Part | None = None
    donor: keras.Model | None = None
    file: Path | None = None


def attach(spec: ModelSpec, backbone: Backbone) -> Attached:
    """The detector `spec` on a backbone; see `effkeras.build`.

    Raises EffkerasError for an object that cannot be a backbone, and for missing taps.
    """
    file = saved_weights(backbone)
    if file is not None:
        return replace(attach(spec, load(file)), file=file)
    if isinstance(backbone, str | Path | ModelSpec):
        return Attached(with_backbone(spec, backbone))
    if isinstance(backbone, TappedModel):
        return _tapped(spec, backbone)
    if not isinstance(backbone, keras.Model):
        raise EffkerasError(
            "a backbone is a name, a TOML or .keras file, a run folder, a ModelSpec or a Keras model, not "
            f"{type(backbone).__name__}"
        )
    own = definition_in(backbone)
    if own is None:
        return _tapped(spec, TappedModel(backbone))
    if own.network.needs_model:
        return Attached(with_backbone(spec, own), part=own_part(backbone, own))
    return Attached(with_backbone(spec, own), donor=backbone)


def own_part(detector: keras.Model, spec: ModelSpec) -> Part | None:
    """The custom Keras model inside a detector, for building another detector on it."""
    network = ExternalNetwork.match(spec.network)
    if network is None:
        return None
    first = next(layer.name for layer in detector.layers if isinstance(layer, Normalize))
    ends = (output_of(detector, external_name((name,))) for name in network.taps)
    return Part(detector, output_of(detector, first), tuple(ends))


def copy_backbone(donor: keras.Model, model: keras.Model, spec: ModelSpec) -> None:
    """Copies the weights of the donor's network into a detector on the same network.

    Raises EffkerasError if the detector's network has another width or depth.
    """
    given = {layer.name: layer.get_weights() for layer in donor.layers}
    for name in sorted(backbone_layers(spec)):
        own = model.get_layer(name)
        values = given.get(name, [])
        if [value.shape for value in values] != [tuple(weight.shape) for weight in own.weights]:
            raise EffkerasError(
                f"the weights of {donor.name!r} do not fit layer {name!r}: a backbone with weights cannot be "
                "scaled; give its name instead, or its definition"
            )
        own.set_weights(values)


def adopt(
    model: keras.Model,
    *,
    labels: tuple[str, ...] = (),
    mean: Rgb = (0.0, 0.0, 0.0),
    std: Rgb = (1.0, 1.0, 1.0),
) -> keras.Model:
    """A copy of a custom classifier that carries a definition, which every command needs.

    The copy takes RGB pixels 0..255, cropped to its size, and passes `(pixels - mean) / std` to the model: by
    default the pixels unchanged. Nested models are flattened. Logits get a softmax; a final softmax or
    sigmoid stays.

    Args:
        model: a functional model that takes one image of fixed size and returns (B, classes).
        labels: names of the classes.
        mean: per-channel mean (RGB) on the 0..255 scale.
        std: per-channel standard deviation (RGB) on the 0..255 scale.

    Raises:
        EffkerasError: the model is not such a classifier.
    """
    part = whole_model(model)
    size, classes = tuple(part.start.shape[1:]), part.ends[0].shape[-1]
    if len(part.ends) != 1 or len(part.ends[0].shape) != 2 or len(size) != 3 or None in size or size[2] != 3:
        raise EffkerasError(
            f"the model {model.name!r} is not an image classifier: it takes {size} and has outputs "
            f"{[tuple(end.shape[1:]) for end in part.ends]}; needed are (H, W, 3) and (classes,)"
        )
    spec = checked(
        ModelSpec(
            name=model.name,
            family="application",
            input=InputSpec(size[:2], mean, std, resize="center-crop"),
            network=ExternalNetwork((layer_path(part.ends[0])[-1],)),
            classes=classes,
            labels=labels,
        )
    )
    with deep_graphs():
        pixels = keras.Input(size, name="image")
        x = Normalize(mean, std, spec.to_toml(), name="normalize")(pixels)
        (scores,) = copy_onto(x, part, CopyRules(weights=True, name=_beside_ours))
        if not _gives_probabilities(part.ends[0]):
            scores = keras.layers.Softmax(name="probabilities")(scores)
        return keras.Model(pixels, scores, name=model.name)


def adopted(model: keras.Model) -> keras.Model:
    """The model itself if effkeras built it, else the copy made by `adopt`."""
    return adopt(model) if definition_in(model) is None else model


def _beside_ours(path: tuple[str, ...]) -> str:
    name = "_".join(path)
    return EXTERNAL + name if name in ("image", "normalize", "probabilities") else name


def _gives_probabilities(output: Any) -> bool:
    layer = maker(output)
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return activation in ("softmax", "sigmoid") or isinstance(layer, keras.layers.Softmax)


def is_in_backbone(spec: ModelSpec) -> Callable[[str], bool]:
    """A test of layer names: whether a layer belongs to the network below head, pyramid or top."""
    if spec.network.needs_model:
        return lambda name: name.startswith(EXTERNAL)
    return backbone_layers(spec).__contains__


def _tapped(spec: ModelSpec, tapped: TappedModel) -> Attached:
    model = tapped.model
    check_functional(model)
    by_level = {level: output_of(model, name) for level, name in (tapped.taps or {}).items()}
    ends = _from_first_level(by_level or _own_taps(model), model)
    names = tuple("_".join(layer_path(end)) for end in ends)
    return Attached(with_taps(spec, tapped, names), Part(model, model.inputs[0], ends))


def _from_first_level(by_level: Taps, model: keras.Model) -> tuple[Any, ...]:
    levels = [level for level in range(FIRST_LEVEL, LAST_LEVEL + 1) if level in by_level]
    if not levels or levels != list(range(FIRST_LEVEL, FIRST_LEVEL + len(levels))):
        raise EffkerasError(
            f"the model {model.name!r} names maps of levels {sorted(by_level)} and a detector needs 3 to 5 "
            "(strides 8 to 32): give effkeras.building.backbones.TappedModel(model, "
            "{3: LAYER, 4: LAYER, 5: LAYER})"
        )
    return tuple(by_level[level] for level in levels)


def _own_taps(model: keras.Model) -> Taps:
    """Maps by level: those that a KerasCV backbone names, else the outputs; a list starts at level 3."""
    named = getattr(model, "pyramid_level_inputs", None)
    if named:
        return {_level(key): output_of(model, name) for key, name in named.items()}
    outputs = output_structure(model)
    if isinstance(outputs, Mapping):
        return {_level(key): one for key, one in outputs.items()}
    return dict(enumerate(outputs, start=FIRST_LEVEL)) if isinstance(outputs, list | tuple) else {}


def _level(key: object) -> int:
    """The level in a key: 3 for 3, "P3" or "stage_3"; 0 if there is no number."""
    digits = re.findall(r"\d+", str(key))
    return int(digits[-1]) if digits else 0
