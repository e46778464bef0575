"""The backend of Keras: models run on any, and training, compression and export need TensorFlow.

The backend is found as Keras finds it, without importing Keras.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from effkeras.support.errors import EffkerasError

TENSORFLOW = "tensorflow"
_CONFIG = "keras.json"


def backend() -> str:
    """The name of Keras's backend: of the loaded Keras, else by KERAS_BACKEND or Keras's settings file."""
    loaded = sys.modules.get("keras")
    if loaded is not None and hasattr(loaded, "config"):
        return str(loaded.config.backend())
    return os.environ.get("KERAS_BACKEND") or _configured()


def need_tensorflow(what: str) -> None:
    """Raises EffkerasError if Keras runs on another backend than TensorFlow; `what` is what needs it."""
    found = backend()
    if found != TENSORFLOW:
        raise EffkerasError(
            f"{what} needs Keras on TensorFlow, and its backend is {found}; run it again with "
            "KERAS_BACKEND=tensorflow (building, predict and eval work on any backend)"
        )


def import_problem(error: Exception) -> str:
    """One line if Keras could not import its backend, else ""."""
    found = backend()
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] == found:
        how = "install it, or run again with KERAS_BACKEND=tensorflow"
        return f"the backend of Keras is {found}, which is not installed; {how}"
    if isinstance(error, ValueError) and "Unable to import backend" in str(error):
        return f"Keras has no backend {found!r}; run again with KERAS_BACKEND=tensorflow"
    return ""


def _configured() -> str:
    folder = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        settings = json.loads(Path(folder, _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return TENSORFLOW
    return str(settings.get("backend", TENSORFLOW)) if isinstance(settings, dict) else TENSORFLOW
