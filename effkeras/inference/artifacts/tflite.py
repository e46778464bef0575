"""Runs LiteRT files (.tflite): those that effkeras exported, and those of other tools."""

from __future__ import annotations

from pathlib import Path

from effkeras.inference.predictor import ARTIFACTS, ArtifactFormat, Predictor
from effkeras.litert.foreign.model import ForeignModel
from effkeras.litert.foreign.options import ForeignOptions
from effkeras.litert.rewriting import attached
from effkeras.litert.runner import DEFINITION, LiteRTModel, read_flatbuffer
from effkeras.support.errors import EffkerasError


def _is_tflite(path: Path) -> bool:
    return path.suffix == ".tflite"


def _open(path: Path, options: ForeignOptions) -> Predictor:
    try:
        is_ours = attached(read_flatbuffer(path), DEFINITION) is not None
    except EffkerasError as error:
        raise error if str(path) in str(error) else EffkerasError(f"{path}: {error}") from error
    if not is_ours:
        return ForeignModel.open(path, options)
    options.refuse_for(str(path))
    return LiteRTModel.open(path)


ARTIFACTS.register("tflite")(ArtifactFormat(_is_tflite, LiteRTModel.open, _open))
