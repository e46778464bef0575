"""TensorFlow checkpoints: name-based (TF1) ones and object-based (TF2) ones, by the variables' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError
from effkeras.weights.official_names import official_names
from effkeras.weights.sources import Entry, NamedSource, Padding, reading

EMA_SUFFIX = "/ExponentialMovingAverage"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_WHAT = "TensorFlow checkpoint"
_SLOTS = ("/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1")
_STEPS = ("global_step", "learning_rate", "save_counter")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_STEM = "/stem/conv2d/kernel"


def open_weights(path: Path, spec: ModelSpec, padding: Padding | None = None) -> NamedSource:
    """Opens a checkpoint by its prefix, one of its files, or its folder."""
    arrays = TfArrays(path)
    names = official_names(spec, _scope(arrays.names()))
    return NamedSource(arrays, {key: Entry(name) for key, name in names.items()})


class TfArrays:
    """A checkpoint's variables; moving averages are preferred, what the optimizer stored is left out."""

    def __init__(self, path: Path):
        self._path = path
        with reading(path, _WHAT):
            import tensorflow as tf

            self._reader = tf.train.load_checkpoint(_prefix(path))
            stored = set(self._reader.get_variable_to_shape_map())
            is_graph = OBJECT_GRAPH in stored
            self._keys = _by_object(self._reader, stored) if is_graph else _by_name(stored)
        self.kind = f"object-based {_WHAT}" if is_graph else _WHAT

    def names(self) -> set[str]:
        """Names of the variables, without those of averages and slots."""
        return set(self._keys)

    def read(self, name: str) -> np.ndarray:
        """A variable, or its moving average."""
        with reading(self._path, _WHAT):
            return self._reader.get_tensor(self._keys[name])


def _by_name(stored: Iterable[str]) -> dict[str, str]:
    """The stored key of each variable: its average's where there is one."""
    keys = {name: name for name in sorted(stored) if not name.endswith(EMA_SUFFIX)}
    keys |= {name.removesuffix(EMA_SUFFIX): name for name in stored if name.endswith(EMA_SUFFIX)}
    slots = {base + slot for base in keys for slot in _SLOTS}
    return {name: key for name, key in keys.items() if name not in slots and name not in _STEPS}


def _by_object(reader: Any, stored: set[str]) -> dict[str, str]:
    """The stored key of each variable's full name, from the graph of objects in the checkpoint.

    The keys are paths of attributes, which depend on how the authors' classes hold their layers; the graph
    keeps each variable's own name beside its key.
    """
    from tensorflow.core.protobuf import trackable_object_graph_pb2 as graphs

    graph = graphs.TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH))
    values = {
        index: attribute
        for index, node in enumerate(graph.nodes)
        for attribute in node.attributes
        if attribute.checkpoint_key in stored and attribute.checkpoint_key.endswith(_VALUE)
    }
    slots = [slot for node in graph.nodes for slot in node.slot_variables]
    averages = {
        slot.original_variable_node_id: values[slot.slot_variable_node_id].checkpoint_key
        for slot in slots
        if slot.slot_name == "average" and slot.slot_variable_node_id in values
    }
    of_optimizer = {slot.slot_variable_node_id for slot in slots}
    return _by_name_and_average(
        {
            _full_name(attribute): averages.get(index, attribute.checkpoint_key)
            for index, attribute in values.items()
            if index not in of_optimizer and not _is_of_training(attribute.checkpoint_key)
        }
    )


def _by_name_and_average(keys: Mapping[str, str]) -> dict[str, str]:
    return {name: keys[key] for name, key in _by_name(keys).items()}


def _full_name(attribute: Any) -> str:
    name = attribute.full_name.removesuffix(":0")
    return name or attribute.checkpoint_key.removesuffix(_VALUE)


def _is_of_training(key: str) -> bool:
    return key.startswith(("optimizer/", "_optimizer/", "save_counter/")) or "/.OPTIMIZER_SLOT/" in key


def _scope(names: Iterable[str]) -> str | None:
    """The network's name in the checkpoint: another one than the model's, if the user named that."""
    return next((name.removesuffix(_STEM) for name in sorted(names) if name.endswith(_STEM)), None)


def _prefix(path: Path) -> str:
    if not path.is_dir():
        name = path.name.partition(".data-")[0].removesuffix(".index").removesuffix(".meta")
        return str(path.with_name(name))
    prefix = _latest(path) or _only_one(path)
    if prefix is None:
        raise EffkerasError(f"{path} holds no checkpoint: no file `checkpoint` that names one, no *.index")
    return prefix


def _latest(folder: Path) -> str | None:
    """What the file `checkpoint` names; an absolute path of another machine is looked for by its name."""
    import tensorflow as tf

    state = tf.train.get_checkpoint_state(str(folder))
    if state is None:
        return None
    candidates = [Path(state.model_checkpoint_path), folder / Path(state.model_checkpoint_path).name]
    return next((str(one) for one in candidates if Path(f"{one}.index").is_file()), None)


def _only_one(folder: Path) -> str | None:
    found = sorted(folder.glob("*.index"))
    return str(found[0]).removesuffix(".index") if len(found) == 1 else None
