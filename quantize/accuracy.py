"""The drop of an artifact's metrics against its model; the model's metrics are measured once and cached.

Digests of weights and of labelled images recognize earlier results.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from effkeras.data.contents import contents
from effkeras.inference.compare import Measured, measure
from effkeras.inference.evaluate import headlines
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.support import results
from effkeras.support.console import note
from effkeras.support.errors import OF_DAMAGE
from effkeras.support.phases import begin_phase

if TYPE_CHECKING:
    from effkeras.data.records import LabelledData

MEASURING = "measuring the {} on {}"
_NAME = 24  # characters of a digest that name a file

Metrics = dict[str, float]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The metrics of the model and of its artifact; `metric` is the main one, `others` also decide.

    `images` is the number of images. `measured_on` is a digest of everything the model's metrics depend on.
    `interval` is the confidence interval of the drop of `metric`, at the level `compare.LEVEL`,
    `model_within` and `artifact_within` are those of its values; None where there is none, as for masks.
    `model_classes` and `artifact_classes` are AP50 or top1 of each class by its name.
    `agreement` is the share of images for which a classifier and its artifact have the same best class.
    """

    metric: str
    split: str
    images: int
    model: Metrics
    artifact: Metrics
    others: tuple[str, ...] = ()
    measured_on: str = ""
    interval: Interval | None = None
    model_within: Interval | None = None
    artifact_within: Interval | None = None
    agreement: float | None = None
    model_classes: Mapping[str, float] = field(default_factory=dict)
    artifact_classes: Mapping[str, float] = field(default_factory=dict)

    @property
    def counting(self) -> dict[str, float]:
        """The model's values of the metrics that decide."""
        return {name: self.model[name] for name in (self.metric, *self.others)}

    @property
    def drop(self) -> float:
        """The drop of the main metric: model minus artifact; negative when the artifact is better."""
        return self.drop_of(self.metric)

    @property
    def worst_drop(self) -> float:
        """The largest drop among the metrics that decide; NaN if one of them is NaN."""
        drops = [self.drop_of(name) for name in (self.metric, *self.others)]
        return max(drops, key=lambda drop: (math.isnan(drop), drop))

    def drop_of(self, metric: str) -> float:
        """The drop of one metric."""
        return self.model[metric] - self.artifact[metric]


@dataclass(frozen=True, eq=False, slots=True)
class ModelMetrics:
    """The metrics and outcomes of a Keras model, and a digest of everything they depend on."""

    measured: Measured
    digest: str

    def counting(self, names: tuple[str, ...]) -> Metrics:
        """The metrics with these names."""
        return {name: self.measured.metrics[name] for name in names}


def model_metrics(
    model: keras.Model, data: LabelledData, limit: int | None, folder: Path | None
) -> ModelMetrics:
    """The metrics of a model on the first `limit` images: measured, or read from `folder`.

    Args:
        model: a model with a definition.
        data: images and labels.
        limit: the number of images to use; None for all.
        folder: where a run caches measured metrics; None for no cache.
    """
    digest = digest_of(model, data, limit)
    file = None if folder is None else folder / f"{digest[:_NAME]}.npz"
    known = None if file is None else _known(file, headlines(spec_of(model)))
    if known is not None:
        note(f"the model was measured before on {data.split}, see {file}")
        return ModelMetrics(known, digest)
    predictor, title = KerasPredictor(model, spec_of(model)), MEASURING.format("model", data.split)
    begin_phase(title)
    found = measure(predictor, data, limit=limit, title=title)
    if file is not None:
        found.save(file)
    return ModelMetrics(found, digest)


def digest_of(model: keras.Model, data: LabelledData, limit: int | None) -> str:
    """A digest of all that the metrics depend on: weights, definition, labels, image files, versions."""
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
    """The metrics cached in a file; None if it is unreadable or incomplete."""
    try:
        found = Measured.load(file)
    except (*OF_DAMAGE, MemoryError):
        return None
    return found if all(math.isfinite(found.metrics.get(name, math.nan)) for name in wanted) else None


def fingerprint(model: keras.Model) -> str:
    """A digest of all weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
