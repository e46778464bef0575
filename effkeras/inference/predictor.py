"""What evaluation and prediction run: a Keras model or an artifact made of one, behind one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from effkeras.building.sources import is_saved_model, open_model
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import AUXILIARY
from effkeras.inference.saved_model import SavedModel
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    import keras


class Predictor(Protocol):
    """A model with its definition, whatever runs it."""

    @property
    def spec(self) -> ModelSpec:
        """The definition of the model."""

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for float32 (B, H, W, 3) pixels 0..255.

        A detector gives `class_logits` (B, N, classes) and `box_deltas` (B, N, 4), for masks
        `mask_logits` (B, h, w, mask classes); a classifier gives `probabilities` (B, classes). An artifact
        with its own NMS inside gives `detection_boxes` (B, M, 4), `detection_scores` and
        `detection_classes` (B, M) and `num_detections` (B,) instead of the heads.
        """


@dataclass(frozen=True, eq=False)
class KerasPredictor:
    """Runs a Keras model."""

    model: keras.Model
    spec: ModelSpec

    @classmethod
    def of(cls, model: keras.Model) -> KerasPredictor:
        """A predictor for a model built by effkeras."""
        from effkeras.layers.normalize import spec_of

        return cls(model, spec_of(model))

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """See `Predictor`."""
        return named_outputs(self.model, self.model.predict_on_batch(pixels))


def named_outputs(model: keras.Model, outputs: Any) -> dict[str, np.ndarray]:
    """What a call of a model gave, float32 by name, as a `Predictor` gives it."""
    if not isinstance(outputs, dict):
        outputs = {model.output_names[0]: outputs}
    return {name: np.asarray(value, np.float32) for name, value in outputs.items() if name != AUXILIARY}


def open_predictor(source: str | Path, weights: str | None = None) -> Predictor:
    """The predictor for a `.tflite` file, a SavedModel of ours or what `open_model` takes.

    Raises EffkerasError when it is missing or corrupt, or when `weights` has no place there.
    """
    path = Path(source)
    is_tflite = path.suffix == ".tflite"
    if not is_tflite and not is_saved_model(path):
        return KerasPredictor.of(open_model(str(source), weights))
    if weights is not None:
        raise EffkerasError(f"{source} has its own weights; --weights goes with a zoo name or a TOML file")
    if not is_tflite:
        return SavedModel.open(path)
    from effkeras.litert.runner import LiteRTModel

    return LiteRTModel.open(path)
