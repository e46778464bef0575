"""The rules of the op tables: each returns the reason why an operator breaks it, or None.

A rule is called with the operator and its limits from the table. Its docstring states the condition that the
operator must meet. Files may be damaged: a missing tensor raises IndexError, which `judgement` reports.
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
    """Activations and constants have one of the types in `activations` and `constants`; states have any."""
    for verb, tensors in (("takes", node.activations), ("gives", node.outputs)):
        for tensor in tensors:
            if tensor.info.dtype not in limits["activations"] and not tensor.is_variable:
                return f"{verb} {tensor.info.dtype}"
    for tensor in node.constants:
        if tensor.info.dtype not in limits["constants"]:
            return f"has {tensor.info.dtype} constants"
    return None


def static(node: Node, limits: Limits) -> str | None:
    """No tensor has a dynamic dimension."""
    for tensor in (*node.given, *node.outputs):
        if not tensor.is_static:
            return f"the shape of {_short(tensor)} is open until it runs"
    return None


def inner_dimensions(node: Node, limits: Limits) -> str | None:
    """Only the innermost `most` dimensions of an activation are larger than 1."""
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
    """The first input's number of dimensions is one of `any_of`."""
    tensor = node.given[0]
    if len(tensor.shape) in limits["any_of"]:
        return None
    return f"{_shape(tensor)} has not {_either(limits['any_of'])} dimensions"


def unsettled(node: Node, limits: Limits) -> str | None:
    """Always broken: some of these operators map, some do not, and no document says which."""
    return f"some {node.name} map and some do not; the rule is not documented"


def version(node: Node, limits: Limits) -> str | None:
    """The operator's version is at most `most`."""
    if node.version <= limits["most"]:
        return None
    return f"version {node.version} is too new: {limits['most']} is the last one known"


def constant(node: Node, limits: Limits) -> str | None:
    """The inputs at `positions` are constants."""
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
    """The number of inputs is one of `any_of`."""
    return _counted(len(node.given), limits["any_of"], "inputs")


def activations(node: Node, limits: Limits) -> str | None:
    """The number of inputs that are not constants is one of `any_of`."""
    return _counted(len(node.activations), limits["any_of"], "inputs that are no constants")


def outputs(node: Node, limits: Limits) -> str | None:
    """The number of outputs is one of `any_of`."""
    return _counted(len(node.outputs), limits["any_of"], "outputs")


def no_fused_activation(node: Node, limits: Limits) -> str | None:
    """The operator has no fused activation function."""
    fused = node.fused_activation()
    return None if fused in _PLAIN else f"has a fused {fused}"


def same_dilation(node: Node, limits: Limits) -> str | None:
    """The dilation is the same in height and width."""
    high, wide = (node.options.get(f"dilation{side}Factor", 1) for side in "HW")
    return None if high == wide else f"its dilation differs in height ({high}) and width ({wide})"


def option(node: Node, limits: Limits) -> str | None:
    """The operator's option `name` (of the schema) has the value `is`."""
    value = node.options.get(limits["name"], limits["is"])
    return None if value == limits["is"] else f"its option {limits['name']} is {value}"


def per_tensor(node: Node, limits: Limits) -> str | None:
    """The constant at `position` has one scale, not one per channel."""
    tensor = _present(node, limits["position"])
    if tensor.scales <= 1:
        return None
    return f"its weights have {tensor.scales} scales, one per channel, which no version below 12 knows"


def flat_input(node: Node, limits: Limits) -> str | None:
    """All dimensions of the first input except the last are 1."""
    return _flat(node.given[0], "input")


def flat_output(node: Node, limits: Limits) -> str | None:
    """All dimensions of the output except the last are 1."""
    return _flat(node.outputs[0], "output")


def flat_constant(node: Node, limits: Limits) -> str | None:
    """All dimensions of the constant at `position` except the last are 1."""
    return _flat(_present(node, limits["position"]), "constant")


def elements(node: Node, limits: Limits) -> str | None:
    """The first input has at most `most` elements."""
    count = math.prod(node.given[0].shape)
    return None if count <= limits["most"] else f"{count:,} elements, more than {limits['most']:,}"


def traffic(node: Node, limits: Limits) -> str | None:
    """The operator's input and output activations have at most `most` bytes in total."""
    distinct = {tensor.info.index: tensor.size for tensor in (*node.activations, *node.outputs)}
    total = sum(distinct.values())
    if total <= limits["most"]:
        return None
    return f"holds {total / 1e6:.1f} MB of activations at once, more than {limits['most'] / 1e6:.1f} MB"


def enlarges(node: Node, limits: Limits) -> str | None:
    """No side grows by more than `most` times."""
    pairs = zip(node.given[0].shape, node.outputs[0].shape, strict=True)
    if all(after <= limits["most"] * before for before, after in pairs):
        return None
    grows = f"{_shape(node.given[0])} becomes {_shape(node.outputs[0])}"
    return f"{grows}, more than {limits['most']} times as large"


def zero_constant(node: Node, limits: Limits) -> str | None:
    """If an input is a constant, there are two inputs and the constant is all zero."""
    if not node.constants:
        return None
    if len(node.given) != 2:
        return "has a constant among more than two inputs"
    return "has a constant that is not all zero" if _any_nonzero(node.constants[0]) else None


def not_batch(node: Node, limits: Limits) -> str | None:
    """No axis (constant at `position`, or option `name`) is the batch of a tensor of rank 4 or more."""
    is_batched = _dimensions(node) >= 4
    return "works along the batch dimension" if is_batched and 0 in _axes(node, limits) else None


def depth_multiple(node: Node, limits: Limits) -> str | None:
    """If the last dimension is among the axes at `position`, its size is a multiple of `of`."""
    shape = node.given[0].shape
    last = len(shape) - 1
    if last not in _axes(node, limits) or shape[last] % limits["of"] == 0:
        return None
    return f"reduces the depth, {shape[last]}, which is no multiple of {limits['of']}"


def positions(node: Node, limits: Limits) -> str | None:
    """It reduces at most `most` positions: the product of the dimensions at the axes."""
    shape = node.given[0].shape
    count = math.prod(shape[axis] for axis in _axes(node, limits) if axis < len(shape))
    if count <= limits["most"]:
        return None
    return f"reduces {count:,} positions ({_shape(node.given[0])}), more than {limits['most']:,}"


def unpadded_batch(node: Node, limits: Limits) -> str | None:
    """The batch dimension is not padded."""
    return "pads the batch dimension" if _present(node, 1).integers()[:2].any() else None


def unit_strides(node: Node, limits: Limits) -> str | None:
    """All strides (input 3) are 1."""
    strides = _present(node, 3).integers()
    return None if (strides == 1).all() else f"its strides are {strides.tolist()}, not all 1"


def leading_ones(node: Node, limits: Limits) -> str | None:
    """Only leading dimensions of size 1 are removed, so that no data moves."""
    source, result = (list(tensor.shape) for tensor in (node.given[0], node.outputs[0]))
    moved = source[len(source) - len(result) :] != result or math.prod(source) != math.prod(result)
    return f"{_shape(node.given[0])} has sides of 1 behind larger ones" if moved else None


def broadcast(node: Node, limits: Limits) -> str | None:
    """Two inputs of rank above 1 have the same rank, or one broadcasts to the other."""
    first, second = (tensor.shape for tensor in node.given[:2])
    if len(first) == len(second) or min(len(first), len(second)) <= 1:
        return None
    pairs = zip(reversed(first), reversed(second), strict=False)
    if all(one == other or 1 in (one, other) for one, other in pairs):
        return None
    return f"cannot broadcast {_text(second)} to {_text(first)}"


def plain_broadcast(node: Node, limits: Limits) -> str | None:
    """An input with fewer dimensions, but more than one, has a shape that all delegates can broadcast."""
    first, second = sorted((tensor.shape for tensor in node.given[:2]), key=len)
    if len(first) <= 1 or len(first) == len(second):
        return None
    whole = len(second) == 4
    rows = whole and len(first) == 3 and second[0] == 1
    columns = whole and len(first) == 2 and first in ((1, 1), (second[0], second[3]))
    return (
        None
        if rows or columns
        else f"broadcasts {_text(first)} to {_text(second)}, which only newer ones support"
    )


def no_outer_product(node: Node, limits: Limits) -> str | None:
    """Of two inputs of equal rank, one is at least as large as the other in every dimension."""
    first, second = (tensor.shape for tensor in node.given[:2])
    if len(first) != len(second):
        return None
    pairs = list(zip(first, second, strict=True))
    if any(one < other for one, other in pairs) and any(one > other for one, other in pairs):
        return f"{_text(first)} and {_text(second)} are each larger in some dimension"
    return None


def depthwise_shapes(node: Node, limits: Limits) -> str | None:
    """Consistent 4-D shapes of a depthwise convolution; one filter per channel, unless one input channel."""
    source, kernel, result = node.given[0], node.given[1], node.outputs[0]
    if {len(tensor.shape) for tensor in (source, kernel, result)} != {4}:
        return "has tensors that are not 4-D"
    multiplier = node.options.get("depthMultiplier", 1)
    channels, filters = source.shape[3], result.shape[3]
    if kernel.shape[3] != filters or filters != channels * multiplier:
        return "its numbers of filters and channels do not fit together"
    return f"has {multiplier} filters per channel" if multiplier != 1 != channels else None


def same_rank_kept(node: Node, limits: Limits) -> str | None:
    """With keep_num_dims, input and output have the same number of dimensions."""
    ranks = {len(node.given[0].shape), len(node.outputs[0].shape)}
    if not node.options.get("keepNumDims") or len(ranks) == 1:
        return None
    return "keeps dimensions that input and output have not in common"


def computed_input(node: Node, limits: Limits) -> str | None:
    """The first input is not a constant."""
    return "its first input is a constant" if node.given[0].info.is_constant else None


def padding_shape(node: Node, limits: Limits) -> str | None:
    """The shape of the paddings is 3 x 2 or 4 x 2."""
    shape = _present(node, 1).shape
    return None if shape in ((3, 2), (4, 2)) else f"its paddings are {_text(shape)}, not 3 x 2 or 4 x 2"


def one_corner_rule(node: Node, limits: Limits) -> str | None:
    """The options align_corners and half_pixel_centers are not both set."""
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
        enlarges,
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
    """Non-negative axes of the first activation, from the option `name` or the constant at `position`."""
    axes = [node.options.get(limits["name"], 0)] if "name" in limits else _constant_axes(node, limits)
    return {axis + _dimensions(node) if axis < 0 else axis for axis in axes}


def _dimensions(node: Node) -> int:
    """The number of dimensions that axes refer to: the activation's, or those of PACK's output."""
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
