"""Builds a plain functional `keras.Model` from a definition."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import keras

from effkeras.building.backbones import Backbone
from effkeras.building.external import Attached, attach, copy_backbone
from effkeras.definitions import zoo
from effkeras.definitions.changes import Regularization, regularized, with_classes, with_heads, with_size
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.scaling import with_phi, with_width
from effkeras.graph.counting import count, run_over_shapes
from effkeras.graph.functional import Part, deep_graphs
from effkeras.graph.heads import classifier, detector
from effkeras.graph.keras_net import KerasNet
from effkeras.layers import Normalize
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import machine_memory
from effkeras.weights.formats import Padding
from effkeras.weights.loading import open_weights

NORMALIZE = "normalize"
logger = logging.getLogger("effkeras")
_DTYPES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
_BYTES = 4  # of a weight in memory: float32 under every dtype policy


def build(  # noqa: PLR0913 - the one entry point
    name_or_path: str | Path | ModelSpec,
    *,
    input_shape: Sequence[int] | None = None,
    classes: int | Sequence[str] | None = None,
    phi: float | None = None,
    width: float | None = None,
    regularize: Regularization | None = None,
    weights: str | Path | None = None,
    activation: Literal["softmax"] | None = "softmax",
    dtype: str = "float32",
    heads: Sequence[str] | None = None,
    backbone: Backbone = None,
    padding: Padding | None = None,
) -> keras.Model:
    """Builds a model as a plain functional `keras.Model`.

    Args:
        name_or_path: a zoo name ("d0", "efficientnet-lite0"), a TOML file, or a ModelSpec; also a run folder
            or a .keras file, whose weights are loaded unless `weights` is given (`load` returns the model as
            saved).
        input_shape: (height, width) or (height, width, 3) in pixels; default: the definition's.
        classes: number of classes, or their names; default: the definition's.
        phi: compound scaling by this many steps from the given model (`effkeras.compound`; detectors by
            EfficientDet's rule); an explicit `input_shape` takes precedence. Not the zoo's b1 or d1.
        width: width multiplier of a classifier, or of a detector's backbone and BiFPN.
        regularize: dropout, stochastic depth and DropBlock to use instead of the definition's.
        weights: a name listed in the definition's `[weights]`, or a file or folder: `.keras`, Keras
            weights in HDF5, a TensorFlow checkpoint, weights of timm, effdet or EfficientNet-PyTorch as
            `.safetensors` or `.pth`. A detector also takes a classifier's file, or a name of its backbone's
            weights, for its backbone. Default: random.
            The model gets the preprocessing that the weights were trained with.
        activation: the classifier's last activation; None returns logits. Detectors always return logits.
        dtype: Keras dtype policy, e.g. "mixed_bfloat16". Outputs stay float32.
        heads: the detector's outputs: "detect" boxes, "segment" a class for each pixel; default: the
            definition's.
        backbone: a network to replace the detector's own: a zoo name, a TOML file, a ModelSpec; a run folder,
            a .keras file or a model built by effkeras, whose weights are copied unless `weights` is given; or
            any functional Keras model. Its maps of stride 8, 16 and 32 are its outputs, or named by KerasCV
            or `effkeras.building.backbones.TappedModel`.
        padding: how the network of PyTorch's weights pads, "same" (TensorFlow's way) or "symmetric", where
            the file does not tell.

    Returns:
        A model that takes RGB pixels 0..255, (B, H, W, 3). A classifier returns (B, classes); a detector
        a dict of `class_logits` (B, N, classes) and `box_deltas` (B, N, 4), with N anchors from level 3 up.
        The head "segment" adds (or, alone, returns only) `mask_logits` (B, H / 4, W / 4, classes + 1), with
        class 0 for the background (H / 4 is rounded up to an even number).

    Raises:
        EffkerasError: unknown name, invalid definition, impossible size or scale, or weights that do not fit.
    """
    spec = name_or_path if isinstance(name_or_path, ModelSpec) else zoo.spec(name_or_path)
    attached = Attached(spec) if backbone is None else attach(spec, backbone)
    spec = attached.spec
    if width is not None:
        spec = with_width(spec, width)
    if phi is not None:
        spec = with_phi(spec, phi)
    if regularize is not None:
        spec = regularized(spec, regularize)
    if input_shape is not None:
        spec = with_size(spec, input_shape)
    if classes is not None:
        spec = with_classes(spec, classes)
    if heads is not None:
        spec = with_heads(spec, heads)
    opened = None
    weights = zoo.saved_weights(name_or_path) if weights is None and backbone is None else weights
    if weights is not None:
        opened = open_weights(spec, weights, padding=padding, folder=zoo.definition_folder(name_or_path))
        spec = opened.spec  # preprocessing and padding belong to the weights
    model = build_spec(spec, activation=activation, dtype=dtype, part=attached.part)
    if opened is not None:
        opened.load_into(model)
    else:
        _start_backbone(attached, model, spec)
    return model


def _start_backbone(attached: Attached, model: keras.Model, spec: ModelSpec) -> None:
    """Gives a detector the weights of the model that is its backbone; those of a `part` are there already."""
    if attached.donor is not None:
        copy_backbone(attached.donor, model, spec)
    if attached.file is not None:
        logger.warning("the backbone has the weights of %s; all others are random", attached.file)


def build_spec(
    spec: ModelSpec,
    *,
    activation: Literal["softmax"] | None = "softmax",
    dtype: str = "float32",
    part: Part | None = None,
) -> keras.Model:
    """Builds the model of a resolved definition, with random weights.

    For a definition with an external network, `part` is the part of another Keras model to use as that
    network; it keeps its weights.
    """
    if activation not in (None, "softmax"):
        raise EffkerasError(f"activation must be 'softmax' or None (logits), not {activation!r}")
    if dtype not in _DTYPES:
        raise EffkerasError(f"dtype must be a Keras policy, one of {', '.join(_DTYPES)}, not {dtype!r}")
    _check_channels(spec)
    check_memory(spec)
    with deep_graphs():
        return _build(KerasNet(dtype, part), spec, activation)


def _build(net: KerasNet, spec: ModelSpec, activation: str | None) -> keras.Model:
    pixels = keras.Input((*spec.input.size, 3), name="image")
    x = Normalize(spec.input.mean, spec.input.std, spec.to_toml(), name=NORMALIZE)(pixels)
    if spec.is_detector:
        heads = detector(net, x, spec)
        if spec.segments:
            as_float = keras.layers.Activation("linear", dtype="float32", name="mask_logits")
            heads["mask_logits"] = as_float(heads["mask_logits"])
        return keras.Model(pixels, heads, name=_graph_name(spec))
    logits = classifier(net, x, spec)
    kind = activation or "linear"
    outputs = keras.layers.Activation(kind, dtype="float32", name="probabilities" if activation else "scores")
    return keras.Model(pixels, outputs(logits), name=_graph_name(spec))


def _check_channels(spec: ModelSpec) -> None:
    """Checks overridden widths by running shapes through; not possible with a custom Keras model."""
    if spec.channels and not spec.network.needs_model:
        run_over_shapes(spec)


def _graph_name(spec: ModelSpec) -> str:
    # TensorFlow accepts only ASCII letters, digits and underscores, and no underscore at the start.
    letters = (letter if letter.isascii() and letter.isalnum() else "_" for letter in spec.name)
    return "".join(letters).lstrip("_") or "model"


def check_memory(spec: ModelSpec) -> None:
    """Raises EffkerasError when a model's weights alone are larger than this machine's memory.

    Networks that only Keras can count are not checked.
    """
    memory = machine_memory()
    if memory is None or spec.network.needs_keras:
        return
    needed = count(spec).total * _BYTES
    if needed > memory:
        raise EffkerasError(
            f"{spec.name} has {needed // 2**30:,} GiB of weights, and this machine has "
            f"{memory // 2**30:,} GiB of memory; choose a smaller phi, width, depth or number of classes"
        )
