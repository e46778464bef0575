"""Runs TensorFlow SavedModels that effkeras exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.building.sources import is_saved_model
from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.inference.predictor import ARTIFACTS, ArtifactFormat
from effkeras.support.console import quiet
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml

if TYPE_CHECKING:
    import numpy as np


DEFINITION = "assets/model.toml"
LABELS = "assets/labels.txt"
DEFAULT = "serving_default"  # the signature that TensorFlow Serving calls by default
RAW = "raw"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A SavedModel exported by effkeras: a `Predictor`, and its other signatures by name.

    `loaded` keeps the weights alive; the signatures alone do not.
    """

    spec: ModelSpec
    loaded: Any

    @classmethod
    def open(cls, folder: Path) -> SavedModel:
        """Opens a folder; EffkerasError if it is corrupt or was not exported by effkeras."""
        spec = definition_of(folder)
        with quiet():
            import tensorflow as tf

            try:
                loaded = tf.saved_model.load(str(folder))
            except Exception as error:  # damaged protocol buffers and checkpoints fail in many ways
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise EffkerasError(f"{folder} is damaged ({reason}); export the model again") from error
        if RAW not in loaded.signatures:
            raise EffkerasError(f"{folder} has no signature {RAW!r}; export the model again")
        return cls(spec, loaded)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32, for float32 (B, H, W, 3) pixels 0..255."""
        return self.answer(RAW, pixels)

    def answer(self, signature: str, value: Any) -> dict[str, np.ndarray]:
        """The outputs of a signature, given its single input."""
        import tensorflow as tf

        call = self.loaded.signatures[signature]
        ((name, kind),) = call.structured_input_signature[1].items()
        return {key: found.numpy() for key, found in call(**{name: tf.constant(value, kind.dtype)}).items()}


ARTIFACTS.register("saved_model")(ArtifactFormat(is_saved_model, SavedModel.open))


def definition_of(folder: Path) -> ModelSpec:
    """The definition that the exporter stored with the graph; EffkerasError if there is none."""
    file = folder / DEFINITION
    if not file.is_file():
        raise EffkerasError(
            f"{folder} carries no model definition: it was not exported by effkeras; "
            "make it with `python -m export.savedmodel`"
        )
    return spec_from_table(read_toml(file), str(file))
