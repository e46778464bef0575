"""TensorFlow's model analyzer as a second opinion for GPUs.

TensorFlow 2.17 is the last version whose analyzer checks for GPUs: later ones skip the check and call every
model compatible (https://github.com/tensorflow/tensorflow/issues/77042). So the analyzer runs in a separate
process, possibly with another environment's Python, and first on an operator that no GPU delegate runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError
from export.preflight.verdicts import Preflight

_OPERATOR = re.compile(r"^\s*Op#(\d+) (\S+)\(")
_WARNING = re.compile(r"^\s*GPU COMPATIBILITY WARNING: (.*)")
_UNREADABLE = "Failed to mmap"
_MARK, _PARTS = "=== effkeras ===", 3
_SCRIPT = """
import sys
import tensorflow as tf
mark, *files = sys.argv[1:]
print(mark, tf.__version__)
for file in files:
    print(mark)
    tf.lite.experimental.Analyzer.analyze(model_path=file, gpu_compatibility=True)
"""
_SUBGRAPH = re.compile(r"^\s*Subgraph#(\d+)")


@dataclass(frozen=True, slots=True)
class Blind:
    """An analyzer of a version that skips the check for GPUs."""

    version: str
    passed: bool = True

    def lines(self, found: Preflight) -> Iterator[tuple[str, str]]:
        """Names and values for the summary."""
        yield (
            "TensorFlow's analyzer",
            f"version {self.version} checks nothing for GPUs and calls all models compatible "
            "(tensorflow#77042); name the Python of an environment with 2.17, the last one that looks",
        )

    def to_row(self, found: Preflight) -> dict[str, Any]:
        """A plain record with the version and no findings."""
        return {"analyzer": {"version": self.version, "refused": None}}


@dataclass(frozen=True, slots=True)
class Analyzed:
    """The analyzer's findings: its reasons by index of the operator in the main subgraph."""

    version: str
    reasons: dict[int, str]

    @property
    def passed(self) -> bool:
        """Whether it refuses no operator."""
        return not self.reasons

    def differences(self, found: Preflight) -> list[str]:
        """Operators that only the table or only the analyzer refuses, with the reason."""
        differences = []
        for one in found.verdicts:
            ours = one.status == "does not map"
            if ours and one.index not in self.reasons:
                differences.append(f"{one.index} {one.op}: only the table refuses it ({one.why})")
            if not ours and one.index in self.reasons:
                differences.append(
                    f"{one.index} {one.op}: only the analyzer refuses it ({self.reasons[one.index]})"
                )
        return differences

    def lines(self, found: Preflight) -> Iterator[tuple[str, str]]:
        """Names and values for the summary."""
        result = "finds nothing" if self.passed else f"refuses {len(self.reasons)} operators"
        yield "TensorFlow's analyzer", f"{result} (version {self.version})"
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


def analyzed(flatbuffer: bytes, python: str = sys.executable, timeout: int = 600) -> Analyzed | Blind:
    """Runs `tf.lite.experimental.Analyzer` with its check for GPUs in a separate process.

    Args:
        flatbuffer: the file's content.
        python: an interpreter with TensorFlow, such as one of an environment with TensorFlow 2.17.
        timeout: seconds that it may take.

    Raises:
        EffkerasError: the interpreter does not exist or lacks TensorFlow, the analyzer cannot read the file,
            or it takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
        files = [Path(folder) / name for name in ("refused.tflite", "model.tflite")]
        for file, content in zip(files, (_refused_by_all(), flatbuffer), strict=True):
            file.write_bytes(content)
        output = _run([python, "-c", _SCRIPT, _MARK, *map(str, files)], timeout)
    version, probe, analysis = (part.strip() for part in output.split(_MARK)[1:])
    if _UNREADABLE in analysis:
        raise EffkerasError("TensorFlow's analyzer cannot read the file; export the model again")
    return Analyzed(version, read_analysis(analysis)) if read_analysis(probe) else Blind(version)


def _run(command: Sequence[str], timeout: int) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise EffkerasError(f"TensorFlow's analyzer took longer than {timeout} s") from error
    except OSError as error:
        raise EffkerasError(f"cannot start {command[0]}: {error.strerror}; give a Python") from error
    output = done.stdout.decode(errors="replace")
    if done.returncode == 0 and output.count(_MARK) == _PARTS:
        return output
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it does not say why"]
    raise EffkerasError(f"{command[0]} cannot run TensorFlow's analyzer: {last[0]}")


def _refused_by_all() -> bytes:
    """A model of a single ARG_MAX, which no GPU delegate runs."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    operator = schema.BuiltinOperator.ARG_MAX
    graph = schema.SubGraphT(
        tensors=[schema.TensorT(shape=[1, 4], name=name, buffer=0) for name in ("values", "largest")],
        inputs=[0],
        outputs=[1],
        operators=[schema.OperatorT(inputs=[0], outputs=[1])],
    )
    model = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(deprecatedBuiltinCode=operator, builtinCode=operator, version=1)],
        subgraphs=[graph],
        buffers=[schema.BufferT()],
    )
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def read_analysis(text: str) -> dict[int, str]:
    """The reasons in an analysis, by index of the operator in the main subgraph."""
    reasons: dict[int, str] = {}
    subgraph, operator = 0, -1
    for line in text.splitlines():
        if found := _SUBGRAPH.match(line):
            subgraph, operator = int(found[1]), -1
        elif found := _OPERATOR.match(line):
            operator = int(found[1])
        elif (found := _WARNING.match(line)) and subgraph == 0 and operator >= 0:
            reasons.setdefault(operator, found[1])
            operator = -1  # the last warning concerns the whole graph
    return reasons
