"""Quantization-aware training: a model whose kernels and activations are rounded as in int8.

Batch normalisation is folded and frozen first (Jacob et al. 2018, section 3.2). Kernels are rounded per
output channel, activations per tensor. Ranges are moving averages or are trained (Krishnamoorthi 2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import keras
import numpy as np

from effkeras.definitions.definition import InputSpec
from effkeras.graph.rewrite import Graph, check_finite, rewrite
from effkeras.layers.fake_quant import fake_quants, is_fake_quantized, ranges_of
from effkeras.layers.fake_quant_kernels import FakeQuantKernel
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from quantize.aware.fake_quantize import Emitter, Source, has_kernel
from quantize.aware.placement import Placement, place
from quantize.magnitude.selection import SKIPPED, KernelFilter, select
from quantize.post_training.calibration import Calibration, Sampling, calibration_inputs, checked_variety
from quantize.report import Compressed, LayerReport, StepReport
from quantize.rewriting.folding import Folds, find_folds
from quantize.specs import QatSpec

STEP = "qat"
ERROR_IS = "rounding error / norm of the kernel"
SAMPLES = 128
BATCH = 8
# The reason for a kernel that could be rounded but stays in float: the user skips it.
ASKED = SKIPPED
IN_FLOAT = "int8 does not support it: it computes in float"


def qat(
    model: keras.Model,
    data: Calibration,
    spec: QatSpec | None = None,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Compressed:
    """Prepares a trained model for quantization-aware training.

    The new model computes what int8 will compute. Train it like any other; then `ptq(model, "int8")` makes
    the artifact without images. Batch normalisation is folded and does not train. A convolution that several
    feature maps share keeps one kernel, with a scale (fixed) and a bias (trained) for each map.

    Args:
        model: any functional Keras model with one input.
        data: the images that initialize the ranges: labelled images, for a model built by effkeras; or
            float32 arrays as the model takes them, (n, H, W, C) or an iterable of (H, W, C).
        spec: how ranges are found, what is preserved, what stays in float.
        samples: the largest number of images to use.
        seed: chooses the images.

    Returns:
        The model, and a report with each kernel's rounding error and each layer that stays in float.

    Raises:
        EffkerasError: weights or activations are NaN or infinite, images are missing or all blank, the
            model is fake-quantized already, or a `skip` matches no layer.
    """
    prepared = quantizable(model, spec or QatSpec())
    calibrate(prepared.model, _batches(prepared.model, data, samples, seed))
    return prepared


def quantizable(model: keras.Model, spec: QatSpec) -> Compressed:
    """As `qat`, but without images: unknown ranges are -6..6 until `calibrate`."""
    check_finite(model)
    if is_fake_quantized(model):
        raise EffkerasError(f"the model {model.name!r} is fake-quantized already; give the one before")
    graph = Graph.of(model)
    folds = _usable(find_folds(graph))
    placement = place(graph, folds)
    emitter = Emitter(Source(graph, folds, placement, spec, _left(graph, spec)))
    made = rewrite(graph, emitter.plan(), emitter.after)
    for layer in made.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return Compressed(made, _report(emitter, folds, placement, sum(1 for _ in fake_quants(made))))


def calibrate(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Initializes the ranges of a fake-quantized model from its float activations on some images.

    Args:
        model: a model made by `quantizable`.
        batches: inputs of the model, (n, H, W, C) each.

    Raises:
        EffkerasError: there are no images, or a layer outputs NaN or infinite values.
    """
    for one in fake_quants(model):
        if one.mode != "fixed":
            one.start(0.0, 0.0)
    _observe(model, True)
    count = 0
    try:
        for batch in batches:
            model(batch, training=False)
            count += len(batch)
    finally:
        _observe(model, False)
    if not count:
        raise EffkerasError("there are no images to start the ranges from; check the data")
    _check_ranges(model)


def _observe(model: keras.Model, flag: bool) -> None:
    for one in (*fake_quants(model), *model.layers):
        if hasattr(one, "observing"):
            one.observing = flag


def _check_ranges(model: keras.Model) -> None:
    for layer in model.layers:
        for one in ranges_of(layer):
            if not np.isfinite(one.limits()).all():
                name = layer.name.removesuffix("_range")
                raise EffkerasError(
                    f"the layer {name!r} of {model.name!r} outputs values that are not finite; check its "
                    "weights and the images"
                )


def _usable(folds: Folds) -> Folds:
    """The folds without those into custom layers, which stay as they are."""
    bad = {id(one.norm) for one in folds.folds.values() if not has_kernel(one.call.operation)}
    kept = {which: one for which, one in folds.folds.items() if id(one.norm) not in bad}
    return replace(folds, folds=kept, gone=tuple(c for c in folds.gone if id(c.operation) not in bad))


def _left(graph: Graph, spec: QatSpec) -> frozenset[str]:
    """The names of layers whose kernels stay in float."""
    if not spec.skip:
        return frozenset()
    skipped = select(graph, KernelFilter(spec.skip, depthwise=True)).skipped
    names = {one.name for one in skipped if one.why == SKIPPED}
    return frozenset({*names, *(f"{name}_depthwise" for name in names)})


def _report(emitter: Emitter, folds: Folds, placement: Placement, ranges: int) -> StepReport:
    done = [_kernel_entry(layer, folds) for layer in emitter.kernels]
    unknown = {id(call.operation): call.operation for call in placement.unknown}
    left = [LayerReport(one.name, type(one).__name__, "skipped", IN_FLOAT) for one in unknown.values()]
    return StepReport(STEP, (*done, *left), ERROR_IS, {"ranges": ranges})


def _kernel_entry(layer: FakeQuantKernel, folds: Folds) -> LayerReport:
    name, kind = layer.name, layer.plain.__name__  # type: ignore[attr-defined]
    if not layer.quantized:
        return LayerReport(name, kind, "skipped", ASKED)
    norms = [one.norm.name for one in folds.folds.values() if one.name in layer.branches]
    kept, rounded = (
        keras.ops.convert_to_numpy(one).astype(np.float64)
        for one in (layer.kept_kernel(), layer.rounded_kernel())
    )
    error = float(np.linalg.norm(rounded - kept) / (np.linalg.norm(kept) or 1.0))
    return LayerReport(name, kind, "done", f"with {', '.join(norms)}" if norms else "", error)


def _batches(model: keras.Model, data: Calibration, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of `BATCH` images as the model takes them."""
    shape = tuple(model.inputs[0].shape[1:])
    inputs = calibration_inputs(data, _preparation(model), shape, Sampling(samples, seed))
    images = iter(checked_variety(track(inputs, "calibrating")))
    while batch := list(itertools.islice(images, BATCH)):
        yield np.concatenate(batch)


def _preparation(model: keras.Model) -> InputSpec | None:
    """How a model's images are prepared; None if the model carries no definition."""
    from effkeras.layers.normalize import spec_of

    try:
        return spec_of(model).input
    except EffkerasError:
        return None
