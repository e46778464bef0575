"""Weights of timm, effdet and EfficientNet-PyTorch: `.safetensors` and `.pth` files, or folders from the hub.

timm numbers blocks by the stages of its own definitions (`blocks.2.0`), which can differ from effkeras'
stages. The blocks are therefore taken in the order of the file's numbers.
"""

from __future__ import annotations

import itertools
import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.graph.bifpn import cell_nodes
from effkeras.graph.mbconv import Block
from effkeras.graph.networks.blocks import BlockNetwork, blocks_of
from effkeras.support.errors import EffkerasError, first_line
from effkeras.support.results import is_number
from effkeras.weights.formats import (
    Arrays,
    Entry,
    NamedSource,
    Padding,
    Requirements,
    Triple,
    reading,
    recognise,
)
from effkeras.weights.torch_files import read_tensors

_WHAT = "safetensors file"
_LARGEST_CONFIG = 2**20  # bytes; timm's have some kilobytes
_COUNTER = "num_batches_tracked"
_OWN = ("efficientnet_", "efficientnetv2_", "mixnet_", "mnasnet_", "semnasnet_", "mobilenetv")
_EPSILON: Mapping[Padding, float] = {"same": 1e-3, "symmetric": 1e-5}


def open_weights(path: Path, spec: ModelSpec, padding: Padding | None = None) -> NamedSource:
    """Opens a state dict; EffkerasError if the padding of the network is unknown.

    timm's `tf_` models pad like TensorFlow, with batch norm epsilon 1e-3; all others pad like PyTorch, with
    1e-5, under the same names and shapes. The name of the file or folder, or a `config.json` beside it, tells
    which; otherwise `padding` must. EfficientNet-PyTorch has its own names, and always pads like TensorFlow.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    arrays = PickledArrays(file) if recognise(file) == "torch" else TorchArrays(file)
    if _FIRST_OF_EFFICIENTNET_PYTORCH in arrays.names():
        renamed = RenamedArrays(arrays)
        requirements = Requirements(padding="same", epsilon=_EPSILON["same"])
        return NamedSource(renamed, torch_entries(spec, renamed.names()), requirements)
    config = _config(file.with_name("config.json"))
    entries = torch_entries(spec, arrays.names())
    if spec.is_detector:
        _check_effdet(file, arrays.names())
        return NamedSource(arrays, entries, _requirements(config, "same"))
    return NamedSource(arrays, entries, _requirements(config, padding or _padding(file, config)))


class TorchArrays:
    """The arrays of a safetensors file, without the counters of batch norms."""

    kind = "timm or effdet safetensors"

    def __init__(self, path: Path):
        self._path = path
        with reading(path, _WHAT):
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                self._names = {name for name in file.keys() if not name.endswith(_COUNTER)}  # noqa: SIM118

    def names(self) -> set[str]:
        """Names in the state dict."""
        return set(self._names)

    def read(self, name: str) -> np.ndarray:
        """One array, in float32."""
        with reading(self._path, _WHAT):
            from safetensors import safe_open

            with safe_open(self._path, framework="numpy") as file:
                return file.get_tensor(name).astype(np.float32)


class PickledArrays:
    """The arrays of a `.pth` file of tensors, without the counters of batch norms."""

    kind = "timm or effdet .pth"

    def __init__(self, path: Path):
        tensors = read_tensors(path)
        self._tensors = {name: one for name, one in tensors.items() if not name.endswith(_COUNTER)}

    def names(self) -> set[str]:
        """Names in the state dict."""
        return set(self._tensors)

    def read(self, name: str) -> np.ndarray:
        """One array, in float32."""
        return self._tensors[name].astype(np.float32)


class RenamedArrays:
    """The arrays of EfficientNet-PyTorch under timm's names.

    Its names: https://github.com/lukemelas/EfficientNet-PyTorch, efficientnet_pytorch/model.py. Blocks are
    numbered through all stages.
    """

    kind = "EfficientNet-PyTorch"

    def __init__(self, arrays: Arrays):
        self._arrays = arrays
        names = arrays.names()
        expanded = {name.split(".")[1] for name in names if "._expand_conv." in name}
        self._old = {_timm_name(name, expanded): name for name in names}

    def names(self) -> set[str]:
        """Names as timm has them."""
        return set(self._old)

    def read(self, name: str) -> np.ndarray:
        """One array, in float32."""
        return self._arrays.read(self._old[name])


_FIRST_OF_EFFICIENTNET_PYTORCH = "_conv_stem.weight"
_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _timm_name(name: str, expanded: set[str]) -> str:
    """timm's name of an array of EfficientNet-PyTorch; `expanded` are the numbers of blocks that expand."""
    if not name.startswith("_blocks."):
        layer, dot, leaf = name.partition(".")
        return _ENDS.get(layer, layer) + dot + leaf
    _, number, layer, *rest = name.split(".")
    layers = {**(_EXPANDED if number in expanded else _PLAIN), **_SQUEEZE}
    return ".".join([f"blocks.{number}.0", layers.get(layer, layer), *rest])


def _check_effdet(file: Path, names: set[str]) -> None:
    """Rejects effdet's own `efficientdet_` models: no biases before norms, and symmetric padding of pools."""
    if "class_net.predict.conv_pw.weight" in names and "class_net.conv_rep.0.conv_pw.bias" not in names:
        raise EffkerasError(
            f"{file} is an effdet model that pads as PyTorch does, also in its pyramid, which cannot be "
            "built here; take a `tf_efficientdet_` one"
        )


def _padding(file: Path, config: Mapping[str, Any]) -> Padding:
    architecture = str(config.get("architecture", ""))
    if architecture:
        return "same" if architecture.startswith("tf_") else "symmetric"
    generic = ("model", "pytorch_model", "")
    name = next((name for name in (file.stem, file.parent.name) if name not in generic), "")
    name = name.replace("timm--", "").rsplit("models--", 1)[-1]
    if name.startswith("tf_"):
        return "same"
    if name.startswith(_OWN):
        return "symmetric"
    raise EffkerasError(
        f"{file}: same names and shapes serve timm's tf_ models and its own, which pad differently; keep "
        "config.json beside it, or give padding: same (tf_ models) or symmetric (`effkeras import --padding`)"
    )


def _config(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise EffkerasError(f"{file} has more than {_LARGEST_CONFIG // 1024} kB, too much for timm's")
        config = json.loads(file.read_text(encoding="utf-8"))
    except EffkerasError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise EffkerasError(f"cannot read {file}: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise EffkerasError(f"{file} is not a timm configuration: it holds no JSON object")
    return config


def _requirements(config: Mapping[str, Any], padding: Padding) -> Requirements:
    """The pixel statistics in timm's `pretrained_cfg`, and the padding and epsilon of its networks."""
    trained = config.get("pretrained_cfg", config)
    trained = trained if isinstance(trained, dict) else {}
    mean, std = _pixels(trained.get("mean")), _pixels(trained.get("std"))
    return Requirements(mean, std, padding, _EPSILON[padding])


def _pixels(values: Any) -> Triple | None:
    if not isinstance(values, list) or len(values) != 3:
        return None
    if not all(map(is_number, values)):
        raise EffkerasError(f"config.json: mean and std must be three numbers, not {reprlib.repr(values)}")
    red, green, blue = (round(float(value) * 255, 6) for value in values)
    return red, green, blue


_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_BLOCK = re.compile(r"(?:backbone\.)?blocks\.(\d+)\.(\d+)\.")

Entries = Iterator[tuple[tuple[str, str], Entry]]
Kernel = Literal["conv", "depthwise", "linear"]


def torch_entries(spec: ModelSpec, names: Iterable[str]) -> dict[tuple[str, str], Entry]:
    """The place of each effkeras weight in a state dict with these names.

    Raises EffkerasError for a network that timm lacks, and for a dict with other blocks.
    """
    network = BlockNetwork.match(spec.network)
    if network is None:
        raise EffkerasError(f"{spec.name}: only networks of MBConv blocks load from timm's weights")
    scope = "backbone." if spec.is_detector else ""
    entries = [*_conv("stem", f"{scope}conv_stem", f"{scope}bn1")]
    stages = _block_scopes(spec, names, len(blocks_of(network)) + bool(network.hidden))
    for block, name in zip(blocks_of(network), stages, strict=False):
        entries += _block(block, f"{scope}{name}")
    entries += _detector(spec) if spec.is_detector else _top(network, stages[-1])
    return dict(entries)


def _block_scopes(spec: ModelSpec, names: Iterable[str], wanted: int) -> list[str]:
    found = {(int(stage), int(place)) for stage, place in _matches(names)}
    if len(found) != wanted:
        raise EffkerasError(
            f"the weights have {len(found)} blocks (blocks.N.M) where {spec.name} has {wanted}: "
            "they belong to another model"
        )
    return [f"blocks.{stage}.{place}" for stage, place in sorted(found)]


def _matches(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        match = _BLOCK.match(name)
        if match:
            stage, place = match.groups()
            yield stage, place


def _block(block: Block, scope: str) -> Entries:
    """Names of a block's layers; they differ between timm's four kinds of blocks."""
    name, stage = block.name, block.stage
    norms = (f"{scope}.bn{index}" for index in itertools.count(1))
    if stage.fused:
        conv = "conv" if stage.expand == 1 else "conv_exp"
        yield from _conv(f"{name}_fused", f"{scope}.{conv}", next(norms))
    else:
        if stage.expand != 1:
            yield from _grouped(f"{name}_expand_conv", f"{scope}.conv_pw", stage.expand_groups)
            yield from _norm(f"{name}_expand_bn", next(norms))
        yield from _depthwise(block, f"{scope}.conv_dw")
        yield from _norm(f"{name}_depthwise_bn", next(norms))
    yield from _weights(f"{name}_se_reduce", f"{scope}.se.conv_reduce", "conv")
    yield from _weights(f"{name}_se_expand", f"{scope}.se.conv_expand", "conv")
    project = "conv_pw" if stage.expand == 1 and not stage.fused else "conv_pwl"
    yield from _grouped(f"{name}_project_conv", f"{scope}.{project}", stage.project_groups)
    yield from _norm(f"{name}_project_bn", next(norms))


def _depthwise(block: Block, scope: str) -> Entries:
    ours, kernels = f"{block.name}_depthwise_conv", block.stage.kernels
    if len(kernels) == 1:
        yield (ours, "kernel"), Entry(f"{scope}.weight", "depthwise")
        return
    for index, kernel in enumerate(kernels):
        yield (f"{ours}_k{kernel}", "kernel"), Entry(f"{scope}.{index}.weight", "depthwise")


def _grouped(ours: str, theirs: str, groups: int) -> Entries:
    if groups == 1:
        yield (ours, "kernel"), Entry(f"{theirs}.weight", "conv")
        return
    for index in range(groups):
        yield (f"{ours}_g{index}", "kernel"), Entry(f"{theirs}.{index}.weight", "conv")


def _top(network: BlockNetwork, last_stage: str) -> Entries:
    if network.hidden:  # MobileNetV3: timm counts the head's convolution as a block; the next has no norm
        yield from _conv("head", f"{last_stage}.conv", f"{last_stage}.bn1")
        yield from _weights("hidden_conv", "conv_head", "conv")
    else:
        yield from _conv("head", "conv_head", "bn2")
    yield from _weights("logits", "classifier", "linear")


def _detector(spec: ModelSpec) -> Entries:
    low, high = detector_parts(spec).fpn.levels
    for level in range(6, high + 1):
        yield from _resample(f"p{level}", f"fpn.resample.{level - low}")
    for cell in range(detector_parts(spec).fpn.cells):
        yield from _cell(cell, low, high)
    for head in ("class", "box"):
        yield from _head(head, detector_parts(spec).head.repeats, range(low, high + 1))


def _cell(cell: int, low: int, high: int) -> Entries:
    for node in cell_nodes(low, high):
        ours, theirs = f"fpn{cell}_node{node.index}", f"fpn.cell.{cell}.fnode.{node.index}"
        for position, source in enumerate(node.inputs):
            yield (f"{ours}_fuse", f"w{position}"), Entry(f"{theirs}.combine.edge_weights", index=position)
            yield from _resample(f"{ours}_in{position}", f"{theirs}.combine.resample.{source}")
        yield from _separable(f"{ours}_conv", f"{theirs}.after_combine.conv")
        yield from _norm(f"{ours}_bn", f"{theirs}.after_combine.conv.bn")


def _head(head: str, repeats: int, levels: range) -> Entries:
    for repeat in range(repeats):
        yield from _separable(f"{head}{repeat}_conv", f"{head}_net.conv_rep.{repeat}")
        for index, level in enumerate(levels):
            yield from _norm(f"{head}{repeat}_p{level}_bn", f"{head}_net.bn_rep.{repeat}.{index}.bn")
    yield from _separable(f"{head}_predict", f"{head}_net.predict")


def _resample(ours: str, theirs: str) -> Entries:
    yield from _weights(f"{ours}_conv", f"{theirs}.conv.conv", "conv")
    yield from _norm(f"{ours}_bn", f"{theirs}.conv.bn")


def _separable(ours: str, theirs: str) -> Entries:
    yield (ours, "depthwise_kernel"), Entry(f"{theirs}.conv_dw.weight", "depthwise")
    yield (ours, "pointwise_kernel"), Entry(f"{theirs}.conv_pw.weight", "conv")
    yield (ours, "bias"), Entry(f"{theirs}.conv_pw.bias")


def _conv(ours: str, conv: str, norm: str) -> Entries:
    yield (f"{ours}_conv", "kernel"), Entry(f"{conv}.weight", "conv")
    yield from _norm(f"{ours}_bn", norm)


def _weights(ours: str, theirs: str, kernel: Kernel) -> Entries:
    yield (ours, "kernel"), Entry(f"{theirs}.weight", kernel)
    yield (ours, "bias"), Entry(f"{theirs}.bias")


def _norm(ours: str, theirs: str) -> Entries:
    for weight, name in _NORM.items():
        yield (ours, weight), Entry(f"{theirs}.{name}")
