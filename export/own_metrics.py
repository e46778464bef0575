"""What a model itself reaches, measured once: a run's records tell it to every later export."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from effkeras import results
from effkeras.console import note
from effkeras.errors import EffkerasError
from effkeras.evaluate import evaluate, headlines
from effkeras.models import spec_of
from effkeras.predictor import KerasPredictor
from export.accuracy import Metrics
from export.reporting.rows import is_number
from quantize.digests import contents, fingerprint

if TYPE_CHECKING:
    import keras

    from effkeras.data.records import LabelledData


@dataclass(frozen=True, slots=True)
class OwnMetrics:
    """The metrics, and a digest of what they depend on."""

    metrics: Metrics
    digest: str


def own_metrics(
    model: keras.Model, data: LabelledData, limit: int | None, records: Path | None
) -> OwnMetrics:
    """The metrics of a model on the first `limit` pictures: measured, or as `records` tell them.

    Args:
        model: a model with a definition.
        data: pictures and labels.
        limit: how many of the pictures count; None for all.
        records: a run's results.jsonl, with rows of exports before; None when there is none.
    """
    digest = digest_of(model, data, limit)
    known = None if records is None else _known(records, digest)
    if known is not None and all(name in known for name in headlines(spec_of(model))):
        note(f"the model was measured before, as {records} tells")
        return OwnMetrics(known, digest)
    predictor = KerasPredictor(model, spec_of(model))
    return OwnMetrics(evaluate(predictor, data, limit=limit, title="measuring the model"), digest)


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


def _known(records: Path, digest: str) -> Metrics | None:
    """The metrics of the newest row with this digest; None when there is none that can be read."""
    try:
        rows = results.read(records)
    except EffkerasError:
        return None
    found = (row.get("float_metrics") for row in reversed(rows) if row.get("measured_on") == digest)
    return next((dict(one) for one in found if _are_metrics(one)), None)


def _are_metrics(found: Any) -> TypeGuard[Metrics]:
    return isinstance(found, dict) and all(map(is_number, found.values()))
