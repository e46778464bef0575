"""Runs LiteRT files (.tflite) that effkeras exported."""

from __future__ import annotations

from pathlib import Path

from effkeras.inference.predictor import ARTIFACTS, ArtifactFormat
from effkeras.litert.runner import LiteRTModel


def _is_tflite(path: Path) -> bool:
    return path.suffix == ".tflite"


ARTIFACTS.register("tflite")(ArtifactFormat(_is_tflite, LiteRTModel.open))
