"""What a test proves of a model; `make zoo-table` collects it into models/README.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, order=True)
class Proof:
    """`kind` is a short word for the table, `how` the sentence below it."""

    kind: str
    how: str


COUNTS = Proof("counts", "parameters to the unit and MACs within 1 %, as counted on the authors' networks")
BUILT = Proof("built", "the built model has the weights that were counted, and runs")
AUTHORS = Proof(
    "authors", "outputs equal those stored of the authors' TensorFlow network on the same weights"
)
KERAS = Proof("keras", "outputs equal those of keras.applications' model on the same weights")
TIMM = Proof("timm", "outputs equal those stored of timm's or effdet's model on the same weights")
EXPORTED = Proof("exported", "becomes a float .tflite within 20 GB of memory, one XNNPACK partition")
NAMES = Proof("names", "every variable has the name and shape of the authors' checkpoint")


def proves(model: str, proof: Proof) -> pytest.MarkDecorator:
    return pytest.mark.proves(model, proof)


def proven(models: Iterable[str], proof: Proof, *more: pytest.MarkDecorator) -> list:
    """Parameters, one a model, each marked with what its test proves, and as said."""
    return [pytest.param(model, marks=[proves(model, proof), *more], id=model) for model in models]
