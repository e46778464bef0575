"""Keras weights in HDF5: `.weights.h5` of Keras 3, and the older `.h5` that keras.applications publishes.

Both may hold an effkeras model or one of keras.applications; the layer names tell which.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError
from effkeras.weights.formats import ModelWeight, Padding, Requirements, Triple, reading
from effkeras.weights.hdf5_safety import check_hdf5
from effkeras.weights.keras_names import KerasLayer, keras_layers, top_layers

_WHAT = "HDF5 file of Keras weights"
_ROOTS = ("layers", "_layer_checkpoint_dependencies")  # the second: TensorFlow 2.12 to 2.15
_NORMALIZATION = ("mean", "variance", "count")
# keras.applications stores ImageNet's standard deviations where Keras expects variances, and divides by
# their square roots in another layer (github.com/tensorflow/tensorflow/issues/49930).
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Stored:
    """One array of a layer: its name for messages, and its place in the file."""

    name: str
    path: str


StoredLayers = dict[str, list[Stored]]


def open_weights(path: Path, spec: ModelSpec, padding: Padding | None = None) -> H5Source:
    """Opens the weights of an effkeras model or of its counterpart in keras.applications.

    Raises EffkerasError if the file is damaged, refers to another file, or holds no Keras weights.
    """
    with reading(path, _WHAT), h5py.File(path) as file:
        check_hdf5(file, path)
        layers, kind = _layers(file, keras_layers(spec))
        requirements = _requirements(file, layers)
    if not layers:
        raise EffkerasError(f"{path} holds no weights of Keras layers")
    return H5Source(path, layers, kind, (keras_layers(spec), requirements))


class H5Source:
    """Weights by layer, and by their order within a layer."""

    spec: ModelSpec | None = None

    def __init__(
        self, path: Path, layers: StoredLayers, kind: str, names: tuple[list[KerasLayer], Requirements]
    ):
        known, self.requirements = names
        theirs = {layer.ours: layer.theirs for layer in known}
        # The file has effkeras' names if more of its layers match without the map.
        is_ours = sum(ours in layers for ours in theirs) > sum(one in layers for one in theirs.values())
        self.kind = kind
        self.is_own = is_ours
        self.optional = frozenset() if is_ours else _without_top(known, layers)
        self._path = path
        self._layers = layers
        self._theirs = {} if is_ours else theirs

    def name(self, wanted: ModelWeight) -> str:
        """The name in the file; for an absent weight, the name that it would have."""
        stored = self._stored(wanted)
        return stored.name if stored else f"{self._layer(wanted)}/{wanted.weight}"

    def find(self, wanted: ModelWeight) -> np.ndarray | None:
        """The array at the same position of the layer."""
        stored = self._stored(wanted)
        if stored is None:
            return None
        with reading(self._path, _WHAT), h5py.File(self._path) as file:
            value = np.asarray(file[stored.path])
        is_dense = wanted.layer == "logits" and value.ndim == 4 and value.shape[:2] == (1, 1)
        return value[0, 0] if is_dense else value  # in keras.applications, MobileNetV3's classifier is a conv

    def unused_names(self, used: set[str]) -> list[str]:
        """Arrays of layers that the model lacks."""
        names = (stored.name for layer in self._layers.values() for stored in layer)
        return sorted(name for name in names if name not in used)

    def _layer(self, wanted: ModelWeight) -> str:
        return self._theirs.get(wanted.layer, wanted.layer)

    def _stored(self, wanted: ModelWeight) -> Stored | None:
        layer = self._layers.get(self._layer(wanted), [])
        return layer[wanted.position] if wanted.position < len(layer) else None


def _without_top(known: list[KerasLayer], layers: StoredLayers) -> frozenset[str]:
    """The layers of the top if the file has none of them (`include_top=False`)."""
    top = top_layers(known)
    is_there = any(layer.theirs in layers for layer in known if layer.ours in top)
    return frozenset() if is_there else top


def _layers(file: h5py.File, known: list[KerasLayer]) -> tuple[StoredLayers, str]:
    """The file's layers with weights, and its format."""
    legacy = file.get("model_weights", file)
    if _attribute(legacy, "layer_names"):
        return _legacy_layers(legacy), "Keras .h5 weights"
    root = next((name for name in _ROOTS if name in file), None)
    if root is None:
        raise EffkerasError(f"{file.filename} holds no Keras weights: neither layers nor layer_names inside")
    return dict(_numbered_layers(file[root], known)), "Keras 3 .weights.h5"


def _legacy_layers(group: h5py.Group) -> StoredLayers:
    layers = {}
    for layer in _attribute(group, "layer_names"):
        names = _attribute(group[layer], "weight_names")
        if names:
            stored = [Stored(name.removesuffix(":0"), f"{group[layer].name}/{name}") for name in names]
            layers[layer] = stored
    return layers


def _attribute(group: h5py.Group, name: str) -> list[str]:
    """A list of strings, which Keras splits into `name0`, `name1`, ... if it is long."""
    numbered = (f"{name}{index}" for index in itertools.count())
    parts = [name] if name in group.attrs else itertools.takewhile(group.attrs.__contains__, numbered)
    texts = (text for part in parts for text in group.attrs[part])
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _numbered_layers(root: h5py.Group, known: list[KerasLayer]) -> Iterator[tuple[str, list[Stored]]]:
    names = _numbers(known)
    for key, group in root.items():
        arrays = group.get("vars", {})
        if len(arrays) == 0:
            continue
        layer = str(arrays.attrs.get("name", names.get(key, key)))
        places = sorted(arrays, key=int)
        yield layer, [Stored(f"{layer}/{place}", arrays[place].name) for place in places]


def _numbers(known: list[KerasLayer]) -> Mapping[str, str]:
    """Layer names by numbered class, for files that hold no names."""
    counts: dict[str, int] = {}
    names = {}
    for layer in known:
        count = counts.get(layer.kind, 0)
        names[f"{layer.kind}_{count}" if count else layer.kind] = layer.theirs
        counts[layer.kind] = count + 1
    return names


def _requirements(file: h5py.File, layers: StoredLayers) -> Requirements:
    """The normalisation stored in the file; removes its layer from `layers`."""
    found = [name for name, stored in layers.items() if _is_normalization(name, stored)]
    if not found:
        return Requirements()
    mean, variance = (np.asarray(file[stored.path]).reshape(-1) for stored in layers.pop(found[0])[:2])
    is_root = np.allclose(variance, _IMAGENET_STD, atol=1e-4)
    std = variance if is_root else np.sqrt(variance)
    # keras.layers.Normalization divides by the square root or by 1e-7, whichever is larger.
    return Requirements(_pixels(mean), _pixels(np.maximum(std, 1e-7)))


def _is_normalization(layer: str, stored: list[Stored]) -> bool:
    leaves = tuple(one.name.rsplit("/", 1)[-1] for one in stored)
    return leaves == _NORMALIZATION or (layer.startswith("normalization") and len(stored) == 3)


def _pixels(values: np.ndarray) -> Triple:
    """Values of three channels (or one for all), from the 0..1 to the 0..255 scale."""
    red, green, blue = np.broadcast_to(values.astype(float) * 255, 3).tolist()
    return red, green, blue
