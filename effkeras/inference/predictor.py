"""Predictors: one interface to run a Keras model or an artifact.

Each module of `effkeras.inference.artifacts` adds a file format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from effkeras.building.sources import open_model
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import AUXILIARY
from effkeras.litert.foreign.options import NOTHING, ForeignOptions
from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry

if TYPE_CHECKING:
    import keras

# The number of values of an image from which the model runs traced: RGB of one megapixel.
_LARGE = 3 * 1024 * 1024


class Predictor(Protocol):
    """A model with its definition, independent of the runtime."""

    @property
    def spec(self) -> ModelSpec:
        """The definition of the model."""

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for float32 (B, H, W, 3) pixels 0..255.

        A detector returns `class_logits` (B, N, classes) and `box_deltas` (B, N, 4), for masks
        `mask_logits` (B, h, w, mask classes); a classifier returns `probabilities` (B, classes). An artifact
        with built-in NMS returns `detection_boxes` (B, M, 4), `detection_scores` and
        `detection_classes` (B, M) and `num_detections` (B,) instead of the heads.
        """


@dataclass(frozen=True, eq=False)
class KerasPredictor:
    """Runs a Keras model: one graph, traced at the first call, for batches of any size."""

    model: keras.Model
    spec: ModelSpec

    @classmethod
    def of(cls, model: keras.Model) -> KerasPredictor:
        """A predictor for a model built by effkeras."""
        from effkeras.layers.normalize import spec_of

        return cls(model, spec_of(model))

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """See `Predictor`."""
        return named_outputs(self.model, self._graph(pixels))

    @cached_property
    def _graph(self) -> Callable[[np.ndarray], Any]:
        import tensorflow as tf

        (entry,) = self.model.inputs
        signature = [tf.TensorSpec((None, *entry.shape[1:]), entry.dtype)]

        def run(pixels: tf.Tensor) -> Any:
            return self.model(pixels, training=False)

        return tf.function(run, input_signature=signature, autograph=False)  # type: ignore[no-any-return]

    def once(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for a few images that no others follow: without tracing, which takes seconds.

        Large images run traced nevertheless, which frees activations (those of D7x take 33 GB).
        """
        if pixels[0].size >= _LARGE:
            return self(pixels)
        return named_outputs(self.model, self.model(pixels, training=False))


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, np.ndarray]:
    """Converts the outputs of a model's call to those of a `Predictor`: float32 by name."""
    if not isinstance(outputs, dict):
        outputs = {model.output_names[0]: outputs}
    return {name: np.asarray(value, np.float32) for name, value in outputs.items() if name != AUXILIARY}


@dataclass(frozen=True, slots=True)
class ArtifactFormat:
    """A file format of artifacts: `is_one` recognises a path, and `open` returns its predictor.

    `open_with`, of a format that other tools write too, is called instead, with what a user says of the file.
    Both raise EffkerasError for a file that is missing or corrupt, or whose meaning is unknown.
    """

    is_one: Callable[[Path], bool]
    open: Callable[[Path], Predictor]
    open_with: Callable[[Path, ForeignOptions], Predictor] | None = None


ARTIFACTS: Registry[ArtifactFormat] = Registry("artifact format", "effkeras.inference.artifacts")


def open_predictor(
    source: str | Path, weights: str | None = None, options: ForeignOptions = NOTHING
) -> Predictor:
    """The predictor for an artifact, or for any source that `open_model` accepts.

    Args:
        source: a .tflite file, which may be another tool's, a SavedModel exported by effkeras, or a model.
        weights: by name or file, for a zoo name or a TOML file.
        options: what the numbers of another tool's .tflite mean.

    Raises:
        EffkerasError: the source is missing or corrupt, its meaning is unknown, or weights or options do not
            go with it.
    """
    path = Path(source)
    artifact = next((one for one in ARTIFACTS.entries().values() if one.is_one(path)), None)
    if artifact is None:
        options.refuse_for(str(source))
        return KerasPredictor.of(open_model(str(source), weights))
    if weights is not None:
        raise EffkerasError(f"{source} has its own weights; --weights goes with a zoo name or a TOML file")
    if artifact.open_with is not None:
        return artifact.open_with(path, options)
    options.refuse_for(str(source))
    return artifact.open(path)
