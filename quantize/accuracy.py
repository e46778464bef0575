"""What an artifact loses of its model's metrics; what the model itself reaches is measured once and kept."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.inference.compare import Measured, measure
from effkeras.inference.evaluate import headlines
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.support import results
from effkeras.support.console import note
from quantize.digests import contents, fingerprint

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData

_NAME = 24  # characters of a digest that name a file

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The same metrics for the model and for the artifact; `metric` counts most, `others` count too.

    `images` is the number of images. `measured_on` is a digest of what the model's metrics depend on.
    `interval` holds the drop of `metric` with the probability `compare.LEVEL`; None where there is
    none, as for masks.
    """

    metric: str
    split: str
    images: int
    model: Metrics
    artifact: Metrics
    others: tuple[str, ...] = ()
    measured_on: str = ""
    interval: tuple[float, float] | None = None

    @property
    def counting(self) -> dict[str, float]:
        """The model's values of the metrics that count."""
        return {name: self.model[name] for name in (self.metric, *self.others)}

    @property
    def drop(self) -> float:
        """What the artifact loses of the metric; negative when it gains."""
        return self.drop_of(self.metric)

    @property
    def worst_drop(self) -> float:
        """The largest drop among the metrics that count; NaN if one of them is."""
        drops = [self.drop_of(name) for name in (self.metric, *self.others)]
        return max(drops, key=lambda drop: (math.isnan(drop), drop))

    def drop_of(self, metric: str) -> float:
        """What the artifact loses of one metric."""
        return self.model[metric] - self.artifact[metric]


@dataclass(frozen=True, eq=False, slots=True)
class ModelMetrics:
    """The metrics and outcomes of a Keras model, and a digest of what they depend on."""

    measured: Measured
    digest: str

    def counting(self, names: tuple[str, ...]) -> Metrics:
        """The metrics of these names."""
        return {name: self.measured.metrics[name] for name in names}


def model_metrics(
    model: keras.Model, data: LabelledData, limit: int | None, folder: Path | None
) -> ModelMetrics:
    """The metrics of a model on the first `limit` images: measured, or as `folder` keeps them.

    Args:
        model: a model with a definition.
        data: images and labels.
        limit: how many of the images count; None for all.
        folder: where a run keeps what was measured; None when nothing is kept.
    """
    digest = digest_of(model, data, limit)
    file = None if folder is None else folder / f"{digest[:_NAME]}.npz"
    known = None if file is None else _known(file, headlines(spec_of(model)))
    if known is not None:
        note(f"the model was measured before on {data.split}, see {file}")
        return ModelMetrics(known, digest)
    predictor = KerasPredictor(model, spec_of(model))
    found = measure(predictor, data, limit=limit, title=f"measuring the model on {data.split}")
    if file is not None:
        found.save(file)
    return ModelMetrics(found, digest)


def digest_of(model: keras.Model, data: LabelledData, limit: int | None) -> str:
    """A digest of what the metrics depend on: weights, definition, labels, image files, versions."""
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
