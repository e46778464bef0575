"""Our layers' weights under the names that the published TensorFlow checkpoints use.

The checkpoints number layers of a kind per scope (`conv2d`, `conv2d_1`, ...), so a name depends on which
layers a block has. Names are as listed by the authors' models; see `official_names` for the mapping.
"""

from __future__ import annotations

from collections.abc import Iterator

from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.graph.bifpn import cell_nodes
from effkeras.graph.mbconv import Block
from effkeras.graph.networks.blocks import BlockNetwork, blocks_of
from effkeras.support.errors import EffkerasError

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
    """The official variable name of each of our weights: (layer, weight) -> name.

    `scope` is the network's name there, by default the model's or its backbone's own. Weights that a layer
    may lack (a bias) are listed too; look up those that the model has.
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
    network = BlockNetwork.of(spec.network)
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
    """As the authors' code names them in a process that builds one model; no weights were published."""
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
