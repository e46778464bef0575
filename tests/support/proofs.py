"""What a test proves of a model; `make zoo-table` collects it into models/README.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


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


Proofs = dict[str, set[Proof]]
COLLECTED = pytest.StashKey["Collected"]()


@dataclass(frozen=True)
class Collected:
    """What the collected tests say they prove, by model; `is_whole` if these are all tests that there are."""

    proofs: Proofs
    is_whole: bool

    @classmethod
    def of(cls, config: pytest.Config, items: Iterable[pytest.Item]) -> Collected:
        items = list(items)
        proofs: Proofs = defaultdict(set)
        for item in items:
            for mark in item.iter_markers("proves"):
                model, proof = mark.args
                proofs[model].add(proof)
        files = {item.path for item in items}
        parts_only = any("::" in argument for argument in config.args)
        return cls(proofs, not parts_only and files >= set(TESTS.rglob("test_*.py")))


def proves(model: str, proof: Proof) -> pytest.MarkDecorator:
    return pytest.mark.proves(model, proof)


def proven(models: Iterable[str], proof: Proof, *more: pytest.MarkDecorator) -> list:
    """Parameters, one a model, each marked with what its test proves, and as said."""
    return [pytest.param(model, marks=[proves(model, proof), *more], id=model) for model in models]
