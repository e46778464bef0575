"""TensorFlow's own model analyzer as a second opinion for GPUs."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from effkeras.errors import EffkerasError
from effkeras.quiet import quiet
from export.preflight.judgement import Preflight

_OPERATOR = re.compile(r"^\s*Op#(\d+) (\S+)\(")
_WARNING = re.compile(r"^\s*GPU COMPATIBILITY WARNING: (.*)")
_SUBGRAPH = re.compile(r"^\s*Subgraph#(\d+)")


@dataclass(frozen=True, slots=True)
class Analyzed:
    """What the analyzer says: its reasons by the index of the operator in the main graph."""

    version: str
    reasons: dict[int, str]

    @property
    def passed(self) -> bool:
        """Whether it finds nothing."""
        return not self.reasons

    def differences(self, found: Preflight) -> list[str]:
        """Operators that only one of the two refuses, with its reason."""
        told = []
        for one in found.verdicts:
            ours = one.status == "does not map"
            if ours and one.index not in self.reasons:
                told.append(f"{one.index} {one.op}: only the table refuses it ({one.why})")
            if not ours and one.index in self.reasons:
                told.append(f"{one.index} {one.op}: only the analyzer refuses it ({self.reasons[one.index]})")
        return told

    def lines(self, found: Preflight) -> Iterator[tuple[str, str]]:
        """Names and values for the summary."""
        said = "finds nothing" if self.passed else f"refuses {len(self.reasons)} operators"
        yield "TensorFlow's analyzer", f"{said} (version {self.version})"
        yield from (("it differs in", line) for line in self.differences(found))

    def to_row(self, found: Preflight) -> dict[str, Any]:
        """The analysis as a plain record."""
        refused = {str(index): reason for index, reason in self.reasons.items()}
        return {
            "analyzer": {
                "version": self.version,
                "refused": refused,
                "differences": self.differences(found),
            }
        }


def analyzed(flatbuffer: bytes) -> Analyzed:
    """Runs `tf.lite.experimental.Analyzer` with its check for GPUs.

    Raises EffkerasError when it cannot read the file.
    """
    text = io.StringIO()
    with quiet():
        import tensorflow as tf

        try:
            with contextlib.redirect_stdout(text):
                tf.lite.experimental.Analyzer.analyze(model_content=flatbuffer, gpu_compatibility=True)
        except (RuntimeError, ValueError) as error:
            raise EffkerasError(f"TensorFlow's analyzer cannot read the file: {error}") from error
    return Analyzed(tf.__version__, read_analysis(text.getvalue()))


def read_analysis(text: str) -> dict[int, str]:
    """The reasons that an analysis gives, by the index of the operator in the main graph."""
    reasons: dict[int, str] = {}
    subgraph, operator = 0, -1
    for line in text.splitlines():
        if found := _SUBGRAPH.match(line):
            subgraph, operator = int(found[1]), -1
        elif found := _OPERATOR.match(line):
            operator = int(found[1])
        elif (found := _WARNING.match(line)) and subgraph == 0 and operator >= 0:
            reasons.setdefault(operator, found[1])
            operator = -1  # the last warning is of the whole graph
    return reasons
