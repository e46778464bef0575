"""Networks of `keras.applications` as part of an effkeras graph.

Keras's own function builds the network once, without weight values, to get its layers; copies of these are
then called on the given tensors. So the layers are flat in the model, accept any dtype policy, and always
have the names of a fresh process, in which Keras numbers unnamed layers from the start.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from effkeras.graph.functional import Config, CopyRules, Part, copy_onto, maker, output_of
from effkeras.graph.vocabulary import Application
from effkeras.support.errors import EffkerasError, did_you_mean

KerasTensor = Any


def feature_maps(
    x: KerasTensor, network: Application, widths: Mapping[str, int], dtype: str = "float32"
) -> list[tuple[KerasTensor, int]]:
    """The feature maps of `network.taps`, from new layers on the normalised image `x`.

    `widths` override the filters or units of layers. Each map comes with its number of channels without
    `widths`.

    Raises EffkerasError for an unknown function or tap, and for an image that is too small.
    """
    model = skeleton(network.function, (x.shape[1], x.shape[2]))
    names = fresh_names(model)
    ends = [_tap(model, names, tap, network.function) for tap in network.taps]
    rules = CopyRules(dtype, lambda path: names.get(path[-1], path[-1]), _change(network, widths))
    maps = copy_onto(x, Part(model, model.inputs[0], tuple(ends)), rules)
    return [(one, end.shape[-1]) for one, end in zip(maps, ends, strict=True)]


@functools.lru_cache(maxsize=2)  # counting and building a network use the same skeleton
def skeleton(function: str, size: tuple[int, int]) -> keras.Model:
    """The network as Keras builds it, without top; its weights have no values and take no memory.

    Callers share it and must not change it.
    """
    build = _function(function)
    options: dict[str, Any] = {"include_top": False, "weights": None, "input_shape": (*size, 3)}
    if "include_preprocessing" in inspect.signature(build).parameters:
        options["include_preprocessing"] = False
    try:
        with tf.Graph().as_default():  # in a graph, initial values are not computed
            return build(**options)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise EffkerasError(f"{function} on images of {size[0]} x {size[1]}: {reason}") from error


def fresh_names(model: keras.Model) -> dict[str, str]:
    """The name of each layer in a process that builds this model first, by current name.

    Numbers of layers that Keras names itself (conv2d_94) then start at the model's first such layer.
    """
    unnamed: dict[str, list[str]] = defaultdict(list)
    for layer in model.operations:
        stem = re.sub(r"_\d+$", "", layer.name)
        if stem.replace("_", "") == type(layer).__name__.lower():
            unnamed[stem].append(layer.name)
    fresh = {layer.name: layer.name for layer in model.operations}
    for stem, names in unnamed.items():
        for index, name in enumerate(sorted(names, key=lambda name: _number(name, stem))):
            fresh[name] = f"{stem}_{index}" if index else stem
    return fresh


def _number(name: str, stem: str) -> int:
    return int(name[len(stem) + 1 :] or 0)


def _function(name: str) -> Callable[..., keras.Model]:
    found = getattr(keras.applications, name, None)
    if inspect.isfunction(found):
        return found
    known = [one for one, value in vars(keras.applications).items() if inspect.isfunction(value)]
    raise EffkerasError(f"keras.applications has no {name!r}; {did_you_mean(name, known)}")


def _tap(model: keras.Model, names: dict[str, str], tap: str, function: str) -> KerasTensor:
    for own, fresh in names.items():
        if fresh == tap:
            return output_of(model, own)
    raise EffkerasError(f"{function} has no layer {tap!r} to tap; {did_you_mean(tap, names.values())}")


def _change(network: Application, widths: Mapping[str, int]) -> Callable[[Any, Config], Config]:
    """Sets widths; with padding "same", pads "valid" windows, except those that follow a ZeroPadding2D."""

    def changed(layer: Any, config: Config) -> Config:
        if network.padding == "same" and _leaves_out_border(layer):
            config = {**config, "padding": "same"}
        return narrowed(config, widths.get(config["name"]))

    return changed


def narrowed(config: Config, width: int | None) -> Config:
    """A layer's config with `width` filters or units; unchanged where it has neither, or for None."""
    key = next((key for key in ("filters", "units") if key in config), None)
    return config if key is None or width is None else {**config, key: width}


def _leaves_out_border(layer: Any) -> bool:
    return getattr(layer, "padding", "same") == "valid" and not _follows_margins(layer)


def _follows_margins(layer: Any) -> bool:
    return isinstance(maker(layer.input), keras.layers.ZeroPadding2D)
