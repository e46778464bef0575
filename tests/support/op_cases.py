"""An operator that keeps each rule of the tables, and the same operator breaking it."""

from __future__ import annotations

import dataclasses
from typing import Any

from export.preflight.judgement import check_for
from export.preflight.verdicts import Verdict
from support.handmade import Op, Tensor, flatbuffer

RELU6 = 3


@dataclasses.dataclass(frozen=True)
class Case:
    """One rule of a table: what keeps it, what breaks it, and a part of the reason then given."""

    target: str
    op: str
    rule: str
    keeps: Op
    breaks: Op
    why: str

    @property
    def label(self) -> str:
        return f"{self.target}-{self.op}-{self.rule}"


def judged(op: Op, target: str) -> Verdict:
    (verdict,) = check_for(flatbuffer(op), target).verdicts
    return verdict


def image(*shape: int, dtype: str = "int8", **others: Any) -> Tensor:
    return Tensor(shape or (1, 8, 8, 4), dtype, **others)


def unary(name: str, source: Tensor | None = None, result: Tensor | None = None, version: int = 1) -> Op:
    source = source or image()
    return Op(name, [source], [result or image(*source.shape, dtype=source.dtype)], version=version)


def binary(name: str, one: Tensor, other: Tensor, result: Tensor | None = None) -> Op:
    kind = {"ADD": "AddOptions", "MUL": "MulOptions", "SUB": "SubOptions"}.get(name, "")
    return Op(name, [one, other], [result or image(*one.shape, dtype=one.dtype)], kind)


def conv(dtype: str = "int8", kernel: Tensor | None = None, **options: Any) -> Op:
    bias = Tensor.weights(4, dtype="int32" if dtype == "int8" else dtype)
    given = [image(dtype=dtype), kernel or Tensor.weights(4, 1, 1, 4, dtype=dtype), bias]
    strides = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    return Op("CONV_2D", given, [image(dtype=dtype)], "Conv2DOptions", strides | options, version=1)


def depthwise(dtype: str = "int8", multiplier: int = 1, **options: Any) -> Op:
    deep = 4 * multiplier
    bias = Tensor.weights(deep, dtype="int32" if dtype == "int8" else dtype)
    given = [image(dtype=dtype), Tensor.weights(1, 1, 1, deep, dtype=dtype), bias]
    strides = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    both = strides | {"depthMultiplier": multiplier} | options
    return Op("DEPTHWISE_CONV_2D", given, [image(1, 8, 8, deep, dtype=dtype)], "DepthwiseConv2DOptions", both)


def dense(dtype: str = "int8", rows: int = 1, scales: int = 1, **options: Any) -> Op:
    kernel = Tensor.weights(6, 4, dtype=dtype, scales=[0.5] * scales)
    source, result = image(rows, 4, dtype=dtype), image(rows, 6, dtype=dtype)
    return Op("FULLY_CONNECTED", [source, kernel, None], [result], "FullyConnectedOptions", options)


def pool(name: str = "MAX_POOL_2D", dtype: str = "int8", **options: Any) -> Op:
    sizes = {"filterHeight": 1, "filterWidth": 1, "strideH": 1, "strideW": 1}
    return Op(name, [image(dtype=dtype)], [image(dtype=dtype)], "Pool2DOptions", sizes | options)


def concatenation(*inputs: Tensor, axis: int = 3, **options: Any) -> Op:
    shape = list(inputs[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in inputs)
    result = image(*shape, dtype=inputs[0].dtype)
    return Op("CONCATENATION", list(inputs), [result], "ConcatenationOptions", {"axis": axis} | options)


def reduction(name: str, axes: Any, *shape: int, dtype: str = "int8") -> Op:
    source = image(*shape, dtype=dtype)
    axes = axes if isinstance(axes, Tensor) else Tensor.constant(axes)
    kept = [] if axes.data is None else [int(axis) % len(source.shape) for axis in axes.data]
    result = [1 if axis in kept else side for axis, side in enumerate(source.shape)]
    return Op(name, [source, axes], [image(*result, dtype=dtype)], "ReducerOptions", {"keepDims": True})


def padding(amounts: Any, dtype: str = "int8", *shape: int) -> Op:
    amounts = amounts if isinstance(amounts, Tensor) else Tensor.constant(amounts)
    return Op("PAD", [image(*shape, dtype=dtype), amounts], [image(*shape, dtype=dtype)], "PadOptions")


def strided(strides: Any = (1, 1, 1, 1), dtype: str = "int8", **masks: int) -> Op:
    limits = [Tensor.constant(values) for values in ([0] * 4, [1, 8, 8, 4], strides)]
    return Op(
        "STRIDED_SLICE", [image(dtype=dtype), *limits], [image(dtype=dtype)], "StridedSliceOptions", masks
    )


def resize(name: str, dtype: str = "int8", size: Tensor | None = None, *shape: int, **options: Any) -> Op:
    kind = {"RESIZE_BILINEAR": "ResizeBilinearOptions"}.get(name, "ResizeNearestNeighborOptions")
    given = [image(*shape, dtype=dtype), size or Tensor.constant([8, 8])]
    return Op(name, given, [image(*shape, dtype=dtype)], kind, options)


def enlarged(*sides: int) -> Op:
    """A map of 1 x 2 that becomes one of these sides."""
    op = resize("RESIZE_BILINEAR")
    return Op(op.name, [image(1, 1, 2, 4), op.inputs[1]], [image(1, *sides, 4)], "ResizeBilinearOptions", {})


def reshape(dtype: str = "int8", shape: Tensor | None = None) -> Op:
    return Op(
        "RESHAPE",
        [image(dtype=dtype), shape or Tensor.constant([1, 64, 4])],
        [image(1, 64, 4, dtype=dtype)],
        "ReshapeOptions",
    )


def softmax(*shape: int, dtype: str = "int8", beta: float = 1.0) -> Op:
    source, result = image(*shape, dtype=dtype), image(*shape, dtype=dtype)
    return Op("SOFTMAX", [source], [result], "SoftmaxOptions", {"beta": beta})


def squeeze(source: tuple[int, ...], result: tuple[int, ...]) -> Op:
    return Op("SQUEEZE", [image(*source)], [image(*result)], "SqueezeOptions")


def pack(axis: int) -> Op:
    rows = [image(1, 8, 4), image(1, 8, 4)]
    shape = [1, 8, 4]
    shape.insert(axis, 2)
    return Op("PACK", rows, [image(*shape)], "PackOptions", {"axis": axis, "valuesCount": 2})


def split(axis: int) -> Op:
    return Op("SPLIT", [Tensor.constant([axis]), image()], [image(1, 8, 8, 2), image(1, 8, 8, 2)])


def prelu(*alpha: int) -> Op:
    return Op("PRELU", [image(), Tensor.weights(*alpha)], [image()])


def slicing(dtype: str, *shape: int, begin: Tensor | None = None) -> Op:
    limits = [begin or Tensor.constant([0] * len(shape)), Tensor.constant(list(shape))]
    return Op("SLICE", [image(*shape, dtype=dtype), *limits], [image(*shape, dtype=dtype)], "SliceOptions")


def transposed_conv(kernel: Tensor) -> Op:
    given = [Tensor.constant([1, 8, 8, 4]), kernel, image()]
    return Op("TRANSPOSE_CONV", given, [image()], "TransposeConvOptions", {"strideH": 1, "strideW": 1})


LARGE = (1, 1024, 1024, 5)  # 5 MB
RUNTIME = Tensor((2,), "int32")  # what is no constant

EDGETPU = [
    Case("edgetpu", "RELU", "dtypes", unary("RELU"), unary("RELU", image(dtype="float32")), "takes float32"),
    Case(
        "edgetpu",
        "QUANTIZE",
        "dtypes",
        unary("QUANTIZE", image(dtype="uint8"), image()),
        unary("QUANTIZE", image(), image(dtype="int16")),
        "gives int16",
    ),
    Case(
        "edgetpu",
        "CONV_2D",
        "dtypes",
        conv(),
        conv(kernel=Tensor.weights(4, 1, 1, 4, dtype="float32")),
        "has float32 constants",
    ),
    Case(
        "edgetpu",
        "ADD",
        "static",
        binary("ADD", image(), image()),
        binary("ADD", image(open=True), image()),
        "is open",
    ),
    Case(
        "edgetpu",
        "RELU6",
        "inner-dimensions",
        unary("RELU6"),
        unary("RELU6", image(2, 8, 8, 4)),
        "2 x 8 x 8 x 4",
    ),
    Case(
        "edgetpu",
        "LOGISTIC",
        "version",
        unary("LOGISTIC", version=3),
        unary("LOGISTIC", version=4),
        "version 4 is too new",
    ),
    Case(
        "edgetpu",
        "CONV_2D",
        "same-dilation",
        conv(dilationHFactor=2, dilationWFactor=2),
        conv(dilationHFactor=2),
        "dilation",
    ),
    Case(
        "edgetpu",
        "CONV_2D",
        "constant",
        conv(),
        conv(kernel=image(4, 1, 1, 4)),
        "input 1 (t) is no constant",
    ),
    Case(
        "edgetpu",
        "DEPTHWISE_CONV_2D",
        "same-dilation",
        depthwise(),
        depthwise(dilationWFactor=3),
        "width (3)",
    ),
    Case(
        "edgetpu",
        "MAX_POOL_2D",
        "no-fused-activation",
        pool(),
        pool(fusedActivationFunction=RELU6),
        "fused RELU6",
    ),
    Case(
        "edgetpu",
        "AVERAGE_POOL_2D",
        "no-fused-activation",
        pool("AVERAGE_POOL_2D"),
        pool("AVERAGE_POOL_2D", fusedActivationFunction=1),
        "fused RELU",
    ),
    Case(
        "edgetpu",
        "CONCATENATION",
        "no-fused-activation",
        concatenation(image(), image()),
        concatenation(image(), image(), fusedActivationFunction=RELU6),
        "fused RELU6",
    ),
    Case(
        "edgetpu",
        "CONCATENATION",
        "zero-constant",
        concatenation(image(), Tensor.constant([[[[3] * 4] * 8] * 8], "int8", zero_point=3)),
        concatenation(image(), Tensor.weights(1, 8, 8, 4)),
        "not all zero",
    ),
    Case(
        "edgetpu",
        "CONCATENATION",
        "zero-constant-of-three",
        concatenation(image(), image(), image()),
        concatenation(image(), image(), Tensor.constant([[[[0] * 4] * 8] * 8], "int8")),
        "more than two inputs",
    ),
    Case("edgetpu", "FULLY_CONNECTED", "option", dense(), dense(weightsFormat=1), "weightsFormat is 1"),
    Case("edgetpu", "FULLY_CONNECTED", "flat-output", dense(), dense(rows=3), "3 x 6"),
    Case("edgetpu", "FULLY_CONNECTED", "per-tensor", dense(), dense(scales=6), "6 scales"),
    Case("edgetpu", "MEAN", "constant", reduction("MEAN", [1, 2]), reduction("MEAN", RUNTIME), "no constant"),
    Case("edgetpu", "MEAN", "not-batch", reduction("MEAN", [1, 2]), reduction("MEAN", [0, 1]), "batch"),
    Case(
        "edgetpu",
        "MEAN",
        "depth-multiple",
        reduction("MEAN", [-1]),
        reduction("MEAN", [3], 1, 8, 8, 6),
        "no multiple of 4",
    ),
    Case(
        "edgetpu",
        "MEAN",
        "positions",
        reduction("MEAN", [1, 2], 1, 64, 128, 3),
        reduction("MEAN", [1, 2], 1, 256, 128, 3),
        "32,768 positions",
    ),
    Case("edgetpu", "SUM", "not-batch", reduction("SUM", [1, 2]), reduction("SUM", [-4]), "batch"),
    Case(
        "edgetpu",
        "REDUCE_MAX",
        "not-batch",
        reduction("REDUCE_MAX", [3]),
        reduction("REDUCE_MAX", [0]),
        "batch",
    ),
    Case(
        "edgetpu",
        "REDUCE_MIN",
        "constant",
        reduction("REDUCE_MIN", [3]),
        reduction("REDUCE_MIN", RUNTIME),
        "no constant",
    ),
    Case("edgetpu", "PACK", "not-batch", pack(2), pack(0), "batch"),
    Case("edgetpu", "SPLIT", "not-batch", split(3), split(-4), "batch"),
    Case(
        "edgetpu",
        "PAD",
        "unpadded-batch",
        padding([[0, 0], [1, 1], [1, 1], [0, 0]]),
        padding([[0, 1], [1, 1], [1, 1], [0, 0]]),
        "pads the batch",
    ),
    Case("edgetpu", "PRELU", "flat-constant", prelu(1, 1, 4), prelu(8, 8, 4), "8 x 8 x 4"),
    Case("edgetpu", "RESHAPE", "constant", reshape(), reshape(shape=RUNTIME), "no constant"),
    Case(
        "edgetpu",
        "RESIZE_BILINEAR",
        "constant",
        resize("RESIZE_BILINEAR"),
        resize("RESIZE_BILINEAR", "int8", RUNTIME),
        "no constant",
    ),
    Case("edgetpu", "RESIZE_BILINEAR", "enlarges", enlarged(32, 64), enlarged(33, 64), "becomes 1 x 33 x 64"),
    Case(
        "edgetpu",
        "RESIZE_NEAREST_NEIGHBOR",
        "constant",
        resize("RESIZE_NEAREST_NEIGHBOR"),
        resize("RESIZE_NEAREST_NEIGHBOR", "int8", RUNTIME),
        "no constant",
    ),
    Case(
        "edgetpu",
        "SLICE",
        "constant",
        slicing("int8", 1, 8, 8, 4),
        slicing("int8", 1, 8, 8, 4, begin=Tensor((4,), "int32")),
        "no constant",
    ),
    Case("edgetpu", "SOFTMAX", "flat-input", softmax(1, 10), softmax(2, 10), "2 x 10"),
    Case("edgetpu", "SOFTMAX", "elements", softmax(1, 16_000), softmax(1, 16_001), "16,001 elements"),
    Case(
        "edgetpu",
        "SQUEEZE",
        "leading-ones",
        squeeze((1, 5, 10), (5, 10)),
        squeeze((5, 1, 10), (5, 10)),
        "sides of 1 behind",
    ),
    Case("edgetpu", "STRIDED_SLICE", "unit-strides", strided(), strided((1, 2, 2, 1)), "[1, 2, 2, 1]"),
    Case(
        "edgetpu",
        "STRIDED_SLICE",
        "option",
        strided(beginMask=15),
        strided(ellipsisMask=1),
        "ellipsisMask is 1",
    ),
    Case("edgetpu", "STRIDED_SLICE", "new-axis", strided(), strided(newAxisMask=2), "newAxisMask is 2"),
    Case(
        "edgetpu",
        "TRANSPOSE_CONV",
        "constant",
        transposed_conv(Tensor.weights(4, 1, 1, 4)),
        transposed_conv(image(4, 1, 1, 4)),
        "no constant",
    ),
]

DOUBTS = [
    Case("edgetpu", "RESHAPE", "traffic", reshape(), unary("RESHAPE", image(*LARGE)), "10.5 MB"),
    Case("edgetpu", "LOGISTIC", "traffic", unary("LOGISTIC"), unary("LOGISTIC", image(*LARGE)), "10.5 MB"),
    Case(
        "edgetpu",
        "MEAN",
        "positions",
        reduction("MEAN", [1, 2], 1, 64, 128, 3),
        reduction("MEAN", [1, 2], 1, 128, 128, 3),
        "16,384 positions",
    ),
    Case("edgetpu", "TRANSPOSE", "unsettled", unary("RELU"), unary("TRANSPOSE"), "some TRANSPOSE map"),
    Case(
        "gpu",
        "MUL",
        "plain-broadcast",
        binary("MUL", image(dtype="float32"), image(1, 4, dtype="float32")),
        binary("MUL", image(dtype="float32"), image(8, 4, dtype="float32")),
        "broadcasts 8 x 4 to 1 x 8 x 8 x 4",
    ),
]


def real(*shape: int, **others: Any) -> Tensor:
    return image(*shape, dtype="float32", **others)


GPU = [
    Case("gpu", "RELU", "dtypes", unary("RELU", real()), unary("RELU", image(dtype="int16")), "takes int16"),
    Case("gpu", "RELU", "static", unary("RELU", real()), unary("RELU", real(open=True)), "is open"),
    Case(
        "gpu",
        "RELU",
        "rank",
        unary("RELU", real()),
        unary("RELU", real(1, 2, 8, 8, 4)),
        "more than 4 dimensions",
    ),
    Case(
        "gpu",
        "ADD",
        "broadcast",
        binary("ADD", real(), real(1, 4)),
        binary("ADD", real(), real(3, 4)),
        "cannot broadcast 3 x 4",
    ),
    Case(
        "gpu",
        "MUL",
        "no-outer-product",
        binary("MUL", real(), real(1, 1, 1, 4)),
        binary("MUL", real(1, 8, 1, 4), real(1, 1, 8, 4), real()),
        "each larger in some dimension",
    ),
    Case(
        "gpu",
        "LOGISTIC",
        "activations",
        unary("LOGISTIC", real()),
        unary("LOGISTIC", Tensor.weights(4, dtype="float32")),
        "has 0 inputs that are no constants",
    ),
    Case("gpu", "SUB", "inputs", binary("SUB", real(), real()), unary("SUB", real()), "has 1 inputs"),
    Case(
        "gpu",
        "DEPTHWISE_CONV_2D",
        "depthwise-shapes",
        depthwise("float32"),
        depthwise("float32", 2),
        "2 filters per channel",
    ),
    Case(
        "gpu",
        "FULLY_CONNECTED",
        "option",
        dense("float32"),
        dense("float32", weightsFormat=1),
        "weightsFormat is 1",
    ),
    Case(
        "gpu",
        "FULLY_CONNECTED",
        "computed-input",
        dense("float32"),
        Op(
            "FULLY_CONNECTED",
            [Tensor.weights(1, 4, dtype="float32"), real(6, 4)],
            [real(1, 6)],
            "FullyConnectedOptions",
        ),
        "first input is a constant",
    ),
    Case(
        "gpu",
        "FULLY_CONNECTED",
        "same-rank-kept",
        dense("float32", keepNumDims=True),
        Op(
            "FULLY_CONNECTED",
            [real(1, 1, 4), Tensor.weights(6, 4, dtype="float32")],
            [real(1, 6)],
            "FullyConnectedOptions",
            {"keepNumDims": True},
        ),
        "keeps dimensions",
    ),
    Case(
        "gpu",
        "MEAN",
        "int32-constant",
        reduction("MEAN", [1, 2], dtype="float32"),
        reduction("MEAN", Tensor.constant([1, 2], "int64"), dtype="float32"),
        "no int32 constant",
    ),
    Case(
        "gpu",
        "PAD",
        "padding-shape",
        padding([[0, 0], [1, 1], [1, 1], [0, 0]], "float32"),
        padding([[0, 0], [1, 1]], "float32", 8, 8),
        "2 x 2",
    ),
    Case(
        "gpu",
        "SLICE",
        "input-rank",
        slicing("float32", 1, 8, 8, 4),
        slicing("float32", 8, 8),
        "has not 3 or 4",
    ),
    Case(
        "gpu",
        "SOFTMAX",
        "option",
        softmax(1, 10, dtype="float32"),
        softmax(1, 10, dtype="float32", beta=2.0),
        "beta is 2.0",
    ),
    Case(
        "gpu",
        "STRIDED_SLICE",
        "option",
        strided(dtype="float32"),
        strided(dtype="float32", shrinkAxisMask=1),
        "shrinkAxisMask is 1",
    ),
    Case(
        "gpu",
        "RESIZE_BILINEAR",
        "one-corner-rule",
        resize("RESIZE_BILINEAR", "float32", halfPixelCenters=True),
        resize("RESIZE_BILINEAR", "float32", halfPixelCenters=True, alignCorners=True),
        "aligned corners",
    ),
    Case(
        "gpu",
        "HARD_SWISH",
        "outputs",
        unary("HARD_SWISH", real()),
        Op("HARD_SWISH", [real()], [real(), real()]),
        "has 2 outputs",
    ),
]
