"""The rules of the tables: each returns the reason why an operator breaks it, or None.

A rule is called with the operator and its limits of the table. It may assume nothing of the file: what an
operator lacks raises IndexError, which `judgement` reports as damage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from effkeras.litert.nodes import Node, Operand

Limits = Mapping[str, Any]
Check = Callable[[Node, Limits], str | None]

_PLAIN = ("NONE", "")


def dtypes(node: Node, limits: Limits) -> str | None:
    """`activations` and `constants` are in the number formats listed."""
    for verb, tensors in (("takes", node.activations), ("gives", node.outputs)):
        for tensor in tensors:
            if tensor.info.dtype not in limits["activations"]:
                return f"{verb} {tensor.info.dtype}"
    for tensor in node.constants:
        if tensor.info.dtype not in limits["constants"]:
            return f"has {tensor.info.dtype} constants"
    return None


def static(node: Node, limits: Limits) -> str | None:
    """No side of a tensor is open."""
    for tensor in (*node.given, *node.outputs):
        if not tensor.is_static:
            return f"the shape of {_short(tensor)} is open until it runs"
    return None


def inner_dimensions(node: Node, limits: Limits) -> str | None:
    """Of an activation's dimensions only the innermost `most` are larger than 1."""
    for tensor in (*node.activations, *node.outputs):
        if any(side > 1 for side in tensor.shape[: -limits["most"]]):
            return f"{_shape(tensor)}: only the {limits['most']} innermost sides may be larger than 1"
    return None


def rank(node: Node, limits: Limits) -> str | None:
    """No activation has more than `most` dimensions."""
    for tensor in (*node.activations, *node.outputs):
        if len(tensor.shape) > limits["most"]:
            return f"{_shape(tensor)} has more than {limits['most']} dimensions"
    return None


def input_rank(node: Node, limits: Limits) -> str | None:
    """The first input has one of so many dimensions (`any_of`)."""
    tensor = node.given[0]
    if len(tensor.shape) in limits["any_of"]:
        return None
    return f"{_shape(tensor)} has not {_either(limits['any_of'])} dimensions"


def unsettled(node: Node, limits: Limits) -> str | None:
    """Never kept: some of these operators map, some do not, and no document says which."""
    return f"some {node.name} map and some do not, by no rule that is documented"


def version(node: Node, limits: Limits) -> str | None:
    """The operator's version is `most` at most."""
    if node.version <= limits["most"]:
        return None
    return f"version {node.version} is too new: {limits['most']} is the last one known"


def constant(node: Node, limits: Limits) -> str | None:
    """The inputs at these `positions` are constants."""
    for position in limits["positions"]:
        tensor = node.inputs[position] if position < len(node.inputs) else None
        if tensor is not None and not tensor.info.is_constant:
            return f"input {position} ({_short(tensor)}) is no constant"
    return None


def int32_constant(node: Node, limits: Limits) -> str | None:
    """The input at `position` is an int32 constant."""
    tensor = _present(node, limits["position"])
    if tensor.info.is_constant and tensor.info.dtype == "int32":
        return None
    return f"input {limits['position']} is no int32 constant"


def inputs(node: Node, limits: Limits) -> str | None:
    """There are as many inputs as `any_of` says."""
    return _counted(len(node.given), limits["any_of"], "inputs")


def activations(node: Node, limits: Limits) -> str | None:
    """There are as many inputs that are no constants as `any_of` says."""
    return _counted(len(node.activations), limits["any_of"], "inputs that are no constants")


def outputs(node: Node, limits: Limits) -> str | None:
    """There are as many outputs as `any_of` says."""
    return _counted(len(node.outputs), limits["any_of"], "outputs")


def no_fused_activation(node: Node, limits: Limits) -> str | None:
    """No activation is part of the operator."""
    fused = node.fused_activation()
    return None if fused in _PLAIN else f"has a fused {fused}"


def same_dilation(node: Node, limits: Limits) -> str | None:
    """Dilation is the same in height and width."""
    high, wide = (node.options.get(f"dilation{side}Factor", 1) for side in "HW")
    return None if high == wide else f"its dilation differs in height ({high}) and width ({wide})"


def option(node: Node, limits: Limits) -> str | None:
    """The schema's option `name` has the value `is`."""
    value = node.options.get(limits["name"], limits["is"])
    return None if value == limits["is"] else f"its option {limits['name']} is {value}"


def per_tensor(node: Node, limits: Limits) -> str | None:
    """The constant at `position` has one scale, not one per channel."""
    tensor = _present(node, limits["position"])
    if tensor.scales <= 1:
        return None
    return f"its weights have {tensor.scales} scales, one per channel, which no version below 12 knows"


def flat_input(node: Node, limits: Limits) -> str | None:
    """All sides of the first input but the last are 1."""
    return _flat(node.given[0], "input")


def flat_output(node: Node, limits: Limits) -> str | None:
    """All sides of the output but the last are 1."""
    return _flat(node.outputs[0], "output")


def flat_constant(node: Node, limits: Limits) -> str | None:
    """All sides of the constant at `position` but the last are 1."""
    return _flat(_present(node, limits["position"]), "constant")


def elements(node: Node, limits: Limits) -> str | None:
    """The first input has `most` elements at most."""
    count = math.prod(node.given[0].shape)
    return None if count <= limits["most"] else f"{count:,} elements, more than {limits['most']:,}"


def traffic(node: Node, limits: Limits) -> str | None:
    """The activations that it takes and gives have `most` bytes at most, all together."""
    distinct = {tensor.info.index: tensor.size for tensor in (*node.activations, *node.outputs)}
    total = sum(distinct.values())
    if total <= limits["most"]:
        return None
    return f"holds {total / 1e6:.1f} MB of activations at once, more than {limits['most'] / 1e6:.1f} MB"


def zero_constant(node: Node, limits: Limits) -> str | None:
    """A constant input is the only other input, and zero."""
    if not node.constants:
        return None
    if len(node.given) != 2:
        return "has a constant among more than two inputs"
    return "has a constant that is not all zero" if _any_nonzero(node.constants[0]) else None


def not_batch(node: Node, limits: Limits) -> str | None:
    """None of the axes (constant at `position`, or option `name`) is the batch of a 4-D tensor."""
    is_batched = _dimensions(node) >= 4
    return "works along the batch dimension" if is_batched and 0 in _axes(node, limits) else None


def depth_multiple(node: Node, limits: Limits) -> str | None:
    """If the depth is among the axes at `position`, it is a multiple of `of`."""
    shape = node.given[0].shape
    last = len(shape) - 1
    if last not in _axes(node, limits) or shape[last] % limits["of"] == 0:
        return None
    return f"reduces the depth, {shape[last]}, which is no multiple of {limits['of']}"


def positions(node: Node, limits: Limits) -> str | None:
    """It reduces `most` positions at most: the product of the sides at the axes."""
    shape = node.given[0].shape
    count = math.prod(shape[axis] for axis in _axes(node, limits) if axis < len(shape))
    if count <= limits["most"]:
        return None
    return f"reduces {count:,} positions ({_shape(node.given[0])}), more than {limits['most']:,}"


def unpadded_batch(node: Node, limits: Limits) -> str | None:
    """Nothing is padded along the batch."""
    return "pads the batch dimension" if _present(node, 1).integers()[:2].any() else None


def unit_strides(node: Node, limits: Limits) -> str | None:
    """All strides, the last input, are 1."""
    strides = _present(node, 3).integers()
    return None if (strides == 1).all() else f"its strides are {strides.tolist()}, not all 1"


def leading_ones(node: Node, limits: Limits) -> str | None:
    """Only sides of 1 before all others are squeezed, so that nothing moves."""
    source, result = (list(tensor.shape) for tensor in (node.given[0], node.outputs[0]))
    moved = source[len(source) - len(result) :] != result or math.prod(source) != math.prod(result)
    return f"{_shape(node.given[0])} has sides of 1 behind larger ones" if moved else None


def broadcast(node: Node, limits: Limits) -> str | None:
    """The shapes of two inputs with more than one dimension each are aligned, or one is repeated."""
    first, second = (tensor.shape for tensor in node.given[:2])
    if len(first) == len(second) or min(len(first), len(second)) <= 1:
        return None
    pairs = zip(reversed(first), reversed(second), strict=False)
    if all(one == other or 1 in (one, other) for one, other in pairs):
        return None
    return f"cannot repeat {_text(second)} to {_text(first)}"


def plain_broadcast(node: Node, limits: Limits) -> str | None:
    """An input of fewer dimensions, but more than one, has the shapes that all delegates repeat."""
    first, second = sorted((tensor.shape for tensor in node.given[:2]), key=len)
    if len(first) <= 1 or len(first) == len(second):
        return None
    whole = len(second) == 4
    rows = whole and len(first) == 3 and second[0] == 1
    columns = whole and len(first) == 2 and first in ((1, 1), (second[0], second[3]))
    return None if rows or columns else f"repeats {_text(first)} to {_text(second)}, as only newer ones do"


def no_outer_product(node: Node, limits: Limits) -> str | None:
    """One input is at least as large as the other in all dimensions."""
    first, second = (tensor.shape for tensor in node.given[:2])
    if len(first) != len(second):
        return None
    pairs = list(zip(first, second, strict=True))
    if any(one < other for one, other in pairs) and any(one > other for one, other in pairs):
        return f"{_text(first)} and {_text(second)} are each larger in some dimension"
    return None


def depthwise_shapes(node: Node, limits: Limits) -> str | None:
    """Shapes of a depthwise convolution, of one filter per channel unless there is one channel only."""
    source, kernel, result = node.given[0], node.given[1], node.outputs[0]
    if {len(tensor.shape) for tensor in (source, kernel, result)} != {4}:
        return "has tensors that are not 4-D"
    multiplier = node.options.get("depthMultiplier", 1)
    channels, filters = source.shape[3], result.shape[3]
    if kernel.shape[3] != filters or filters != channels * multiplier:
        return "its numbers of filters and channels do not fit together"
    return f"has {multiplier} filters per channel" if multiplier != 1 != channels else None


def same_rank_kept(node: Node, limits: Limits) -> str | None:
    """With keep_num_dims, input and output have equally many dimensions."""
    ranks = {len(node.given[0].shape), len(node.outputs[0].shape)}
    if not node.options.get("keepNumDims") or len(ranks) == 1:
        return None
    return "keeps dimensions that input and output have not in common"


def computed_input(node: Node, limits: Limits) -> str | None:
    """The first input is no constant."""
    return "its first input is a constant" if node.given[0].info.is_constant else None


def padding_shape(node: Node, limits: Limits) -> str | None:
    """The paddings are 3 x 2 or 4 x 2 numbers."""
    shape = _present(node, 1).shape
    return None if shape in ((3, 2), (4, 2)) else f"its paddings are {_text(shape)}, not 3 x 2 or 4 x 2"


def one_corner_rule(node: Node, limits: Limits) -> str | None:
    """Not both: aligned corners and half-pixel centres."""
    both = node.options.get("alignCorners") and node.options.get("halfPixelCenters")
    return "has aligned corners and half-pixel centres" if both else None


RULES: Mapping[str, Check] = {
    check.__name__.replace("_", "-"): check
    for check in (
        activations,
        broadcast,
        computed_input,
        constant,
        depth_multiple,
        depthwise_shapes,
        dtypes,
        elements,
        flat_constant,
        flat_input,
        flat_output,
        inner_dimensions,
        input_rank,
        inputs,
        int32_constant,
        leading_ones,
        no_fused_activation,
        no_outer_product,
        not_batch,
        one_corner_rule,
        option,
        outputs,
        padding_shape,
        per_tensor,
        plain_broadcast,
        positions,
        rank,
        same_dilation,
        same_rank_kept,
        static,
        traffic,
        unit_strides,
        unpadded_batch,
        unsettled,
        version,
        zero_constant,
    )
}


def _axes(node: Node, limits: Limits) -> set[int]:
    """Axes of the first activation, from 0: of the option `name`, or the constant at `position`."""
    axes = [node.options.get(limits["name"], 0)] if "name" in limits else _constant_axes(node, limits)
    return {axis + _dimensions(node) if axis < 0 else axis for axis in axes}


def _dimensions(node: Node) -> int:
    """What axes count: the dimensions of the activation, or of what PACK makes of several."""
    return len(node.activations[0].shape) + (1 if node.name == "PACK" else 0)


def _constant_axes(node: Node, limits: Limits) -> list[int]:
    tensor = _present(node, limits["position"])
    return [int(axis) for axis in tensor.integers()] if tensor.info.is_constant else []


def _present(node: Node, position: int) -> Operand:
    tensor = node.inputs[position]
    if tensor is None:
        raise IndexError(position)
    return tensor


def _counted(count: int, allowed: list[int], what: str) -> str | None:
    if count in allowed:
        return None
    return f"has {count} {what}, not {_either(allowed)}"


def _flat(tensor: Operand, what: str) -> str | None:
    if all(side == 1 for side in tensor.shape[:-1]):
        return None
    return f"its {what} is {_shape(tensor)}, not one row"


def _any_nonzero(tensor: Operand) -> bool:
    if tensor.info.dtype.startswith("float"):
        return tensor.data is not None and bool(tensor.data.any())
    return bool((tensor.integers() != tensor.zero_point).any())


def _either(values: list[int]) -> str:
    return " or ".join(map(str, values))


def _short(tensor: Operand) -> str:
    return tensor.info.name.split(";")[0].rsplit("/", 1)[-1] or f"tensor {tensor.info.index}"


def _shape(tensor: Operand) -> str:
    return _text(tensor.shape)


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
