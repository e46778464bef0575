"""Writes models/README.md: every model, its cost, and what the tests prove of it (`make zoo-table`)."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.proofs import COLLECTED, Proof, Proofs

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import cost, count
from effkeras.support.files import write_text

ROOT = Path(__file__).parents[1]
README = ROOT / "models" / "README.md"
INTRO = """# The zoo

One TOML file a model; `effkeras.build(name)` makes it. A leaf names its `base` and its own overrides.
`families.toml` says how the folders' models are named.

The table is generated from the tests (`make zoo-table`): each mark below is a test that runs in CI,
or in `make nightly` for the large ones.
Parameters are trainable ones; MACs are multiply-adds of convolutions and dense layers for one image of
the model's own size; operations are what TensorFlow's profiler counts, two for each MAC.
"""


class Collector:
    """Keeps what tests/conftest.py notes of the collected tests."""

    proofs: Proofs

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.proofs = session.config.stash[COLLECTED].proofs


def collect() -> Proofs:
    collector = Collector()
    with contextlib.redirect_stdout(io.StringIO()):
        code = pytest.main(
            ["--collect-only", "-o", "addopts=--import-mode=importlib", str(ROOT / "tests")],
            plugins=[collector],
        )
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"the tests cannot be collected (pytest says {code!r})")
    return collector.proofs


def page(proofs: Proofs) -> str:
    families = [(family.title, specs) for family, specs in zoo.specs_by_family() if specs]
    tables = "\n".join(_family(title, specs, proofs) for title, specs in families)
    return f"{INTRO}\n{_legend(proofs)}\n{tables}"


def _legend(proofs: Proofs) -> str:
    kinds = sorted({proof for found in proofs.values() for proof in found})
    return "".join(f"- **{proof.kind}**: {proof.how}\n" for proof in kinds)


def _family(title: str, specs: Iterable[ModelSpec], proofs: Proofs) -> str:
    rows = "".join(_row(spec, proofs[spec.name]) for spec in specs)
    head = "| model | input | parameters | MACs | operations | proven |\n|---|---|--:|--:|--:|---|\n"
    return f"## {title}\n\n{head}{rows}"


def _row(spec: ModelSpec, proofs: set[Proof]) -> str:
    parameters, macs = cost(spec)
    size = "x".join(map(str, spec.input.size))
    proven = ", ".join(sorted({proof.kind for proof in proofs}))
    return (
        f"| {spec.name} | {size} | {parameters:,} | {macs / 1e6:,.1f} M | {_operations(spec)} | {proven} |\n"
    )


def _operations(spec: ModelSpec) -> str:
    if spec.network.needs_keras:
        return "-"  # counting them takes building them
    return f"{count(spec).operations / 1e6:,.1f} M"


def main() -> int:
    """Writes the page, or with --check says whether it is up to date."""
    text = page(collect())
    if "--check" in sys.argv[1:]:
        return 0 if README.read_text(encoding="utf-8") == text else 1
    write_text(README, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
