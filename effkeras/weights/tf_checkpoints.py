"""TensorFlow checkpoints, name-based (TF1) or object-based (TF2), read by variable name.

The published checkpoints number the layers of a kind in each scope (`conv2d`, `conv2d_1`, ...), so a name
depends on which layers a block has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.graph.bifpn import cell_nodes
from effkeras.graph.mbconv import Block
from effkeras.graph.networks.blocks import BlockNetwork, blocks_of
from effkeras.support.errors import EffkerasError
from effkeras.weights.bundle_safety import check_checkpoint
from effkeras.weights.formats import Entry, NamedSource, Padding, reading

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
    """A checkpoint's variables, as moving averages where stored; optimizer state is left out."""

    def __init__(self, path: Path):
        self._path = path
        with reading(path, _WHAT):
            import tensorflow as tf

            prefix = _prefix(path)
            check_checkpoint(prefix)
            self._reader = tf.train.load_checkpoint(prefix)
            stored = set(self._reader.get_variable_to_shape_map())
            is_graph = OBJECT_GRAPH in stored
            self._keys = _by_object(self._reader, stored) if is_graph else _by_name(stored)
        self.kind = f"object-based {_WHAT}" if is_graph else _WHAT

    def names(self) -> set[str]:
        """Names of the variables, without averages and slots."""
        return set(self._keys)

    def read(self, name: str) -> np.ndarray:
        """The moving average of a variable, or the variable if it has none."""
        with reading(self._path, _WHAT):
            return self._reader.get_tensor(self._keys[name])


def _by_name(stored: Iterable[str]) -> dict[str, str]:
    """The stored key of each variable: that of its average, if there is one."""
    keys = {name: name for name in sorted(stored) if not name.endswith(EMA_SUFFIX)}
    keys |= {name.removesuffix(EMA_SUFFIX): name for name in stored if name.endswith(EMA_SUFFIX)}
    slots = {base + slot for base in keys for slot in _SLOTS}
    return {name: key for name, key in keys.items() if name not in slots and name not in _STEPS}


def _by_object(reader: Any, stored: set[str]) -> dict[str, str]:
    """The stored key of each variable's full name, from the object graph in the checkpoint.

    The keys are attribute paths, which depend on how the authors' classes hold their layers; the graph
    stores each variable's own name with its key.
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
    """The network's name in the checkpoint; the user may have given it another name than the model's."""
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
    """The checkpoint in this folder that the file `checkpoint` names.

    Only the last part of the name counts: the file may come from elsewhere, with a path of that machine.
    """
    import tensorflow as tf

    state = tf.train.get_checkpoint_state(str(folder))
    if state is None:
        return None
    name = Path(state.model_checkpoint_path).name
    return str(folder / name) if (folder / f"{name}.index").is_file() else None


def _only_one(folder: Path) -> str | None:
    found = sorted(folder.glob("*.index"))
    return str(found[0]).removesuffix(".index") if len(found) == 1 else None


_CONV = {"kernel": "kernel", "bias": "bias"}
_DEPTHWISE = {"kernel": "depthwise_kernel"}
_SEPARABLE = {
    "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel",
    "bias": "bias",
}
_BATCH_NORM = {name: name for name in ("gamma", "beta", "moving_mean", "moving_variance")}
_BN = "tpu_batch_normalization"

Named = Iterator[tuple[str, str, dict[str, str]]]


def official_names(spec: ModelSpec, scope: str | None = None) -> dict[tuple[str, str], str]:
    """The official variable name of each effkeras weight: (layer, weight) -> name.

    `scope` is the network's name in the checkpoint; default: the model's or its backbone's. Weights that a
    layer may lack (a bias) are listed too; look up only those that the model has.
    """
    prefix = scope or (spec.backbone if spec.is_detector else spec.name)
    entries = [*_backbone(spec, prefix)]
    entries += [*_detector(spec)] if spec.is_detector else [*_classifier(prefix)]
    return {
        (layer, ours): f"{scope}/{theirs}"
        for layer, scope, weights in entries
        for ours, theirs in weights.items()
    }


def _backbone(spec: ModelSpec, prefix: str) -> Named:
    yield "stem_conv", f"{prefix}/stem/conv2d", _CONV
    yield "stem_bn", f"{prefix}/stem/{_BN}", _BATCH_NORM
    network = BlockNetwork.match(spec.network)
    if network is None:
        raise EffkerasError(f"{spec.name}: no TensorFlow checkpoint with names was published for it")
    for index, block in enumerate(blocks_of(network)):
        yield from _block(block, f"{prefix}/blocks_{index}")


def _block(block: Block, scope: str) -> Named:
    convs = _numbered(f"{scope}/conv2d")
    norms = _numbered(f"{scope}/{_BN}")
    if block.stage.fused:
        yield f"{block.name}_fused_conv", next(convs), _CONV
        yield f"{block.name}_fused_bn", next(norms), _BATCH_NORM
    elif block.stage.expand != 1:
        yield f"{block.name}_expand_conv", next(convs), _CONV
        yield f"{block.name}_expand_bn", next(norms), _BATCH_NORM
    if not block.stage.fused:
        yield f"{block.name}_depthwise_conv", f"{scope}/depthwise_conv2d", _DEPTHWISE
        yield f"{block.name}_depthwise_bn", next(norms), _BATCH_NORM
    if block.squeeze:
        yield f"{block.name}_se_reduce", f"{scope}/se/conv2d", _CONV
        yield f"{block.name}_se_expand", f"{scope}/se/conv2d_1", _CONV
    if block.stage.expand != 1 or not block.stage.fused:
        yield f"{block.name}_project_conv", next(convs), _CONV
        yield f"{block.name}_project_bn", next(norms), _BATCH_NORM


def _classifier(prefix: str) -> Named:
    yield "head_conv", f"{prefix}/head/conv2d", _CONV
    yield "head_bn", f"{prefix}/head/{_BN}", _BATCH_NORM
    yield "logits", f"{prefix}/head/dense", _CONV


def _detector(spec: ModelSpec) -> Named:
    low, high = detector_parts(spec).fpn.levels
    for level in range(6, high + 1):
        yield from _resample(f"p{level}", f"resample_p{level}")
    for cell in range(detector_parts(spec).fpn.cells):
        yield from _cell(cell, low, high)
    for head in ("class", "box"):
        yield from _head(head, detector_parts(spec).head.repeats, range(low, high + 1))
    if spec.segments:
        yield from _mask_head(range(low, high + 1))


def _cell(cell: int, low: int, high: int) -> Named:
    inputs = high - low + 1
    for node in cell_nodes(low, high):
        ours, theirs = f"fpn{cell}_node{node.index}", f"fpn_cells/cell_{cell}/fnode{node.index}"
        scalars = _numbered("WSM")
        yield f"{ours}_fuse", theirs, {f"w{i}": next(scalars) for i in range(len(node.inputs))}
        for position, source in enumerate(node.inputs):
            scope = f"{theirs}/resample_{position}_{source}_{inputs + node.index}"
            yield from _resample(f"{ours}_in{position}", scope)
        combined = f"{theirs}/op_after_combine{inputs + node.index}"
        yield f"{ours}_conv", f"{combined}/conv", _SEPARABLE
        yield f"{ours}_bn", f"{combined}/bn", _BATCH_NORM


def _resample(ours: str, theirs: str) -> Named:
    yield f"{ours}_conv", f"{theirs}/conv2d", _CONV
    yield f"{ours}_bn", f"{theirs}/bn", _BATCH_NORM


def _head(head: str, repeats: int, levels: range) -> Named:
    for repeat in range(repeats):
        yield f"{head}{repeat}_conv", f"{head}_net/{head}-{repeat}", _SEPARABLE
        for level in levels:
            scope = f"{head}_net/{head}-{repeat}-bn-{level}"
            yield f"{head}{repeat}_p{level}_bn", scope, _BATCH_NORM
    yield f"{head}_predict", f"{head}_net/{head}-predict", _SEPARABLE


def _mask_head(levels: range) -> Named:
    """Names from the authors' code in a process that builds one model; no weights were published."""
    convs = _numbered("segmentation_head/conv2d_transpose")
    for position, level in enumerate(reversed(levels[:-1])):
        yield f"segment_p{level}_conv", next(convs), _CONV
        yield f"segment_p{level}_bn", f"segmentation_head/bn_{position}", _BATCH_NORM
    yield "segment_predict", next(convs), _CONV


def _numbered(name: str) -> Iterator[str]:
    yield name
    index = 1
    while True:
        yield f"{name}_{index}"
        index += 1
