"""What a model itself reaches, measured once: a run keeps it for every later export."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras import results
from effkeras.compare import Measured, measure
from effkeras.console import note
from effkeras.evaluate import headlines
from effkeras.models import spec_of
from effkeras.predictor import KerasPredictor
from quantize.digests import contents, fingerprint

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData

_NAME = 24  # characters of a digest that name a file


@dataclass(frozen=True, eq=False, slots=True)
class OwnMetrics:
    """The metrics and outcomes, and a digest of what they depend on."""

    measured: Measured
    digest: str


def own_metrics(model: keras.Model, data: LabelledData, limit: int | None, folder: Path | None) -> OwnMetrics:
    """The metrics of a model on the first `limit` pictures: measured, or as `folder` keeps them.

    Args:
        model: a model with a definition.
        data: pictures and labels.
        limit: how many of the pictures count; None for all.
        folder: where a run keeps what was measured; None when nothing is kept.
    """
    digest = digest_of(model, data, limit)
    file = None if folder is None else folder / f"{digest[:_NAME]}.npz"
    known = None if file is None else _known(file, headlines(spec_of(model)))
    if known is not None:
        note(f"the model was measured before on {data.split}, as {file} tells")
        return OwnMetrics(known, digest)
    predictor = KerasPredictor(model, spec_of(model))
    found = measure(predictor, data, limit=limit, title=f"measuring the model on {data.split}")
    if file is not None:
        found.save(file)
    return OwnMetrics(found, digest)


def digest_of(model: keras.Model, data: LabelledData, limit: int | None) -> str:
    """A digest of what the metrics depend on: weights, definition, labels, picture files, versions."""
    files = (record.path.stat() for record in data.records[:limit] if record.path.exists())
    parts = {
        "weights": fingerprint(model),
        "definition": spec_of(model).to_toml(),
        "data": contents(data),
        "files": [(file.st_size, file.st_mtime_ns) for file in files],
        "limit": limit,
        "versions": results.environment()["versions"],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _known(file: Path, wanted: tuple[str, ...]) -> Measured | None:
    """What a file keeps; None when there is none that can be read."""
    try:
        found = Measured.load(file)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return found if all(math.isfinite(found.metrics.get(name, math.nan)) for name in wanted) else None
