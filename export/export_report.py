"""The report of an export: as a record for results.jsonl, and printed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.support.console import facts, table
from export.consumers.consumer import RAW

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec
    from effkeras.litert.flatbuffer import IOTensor
    from effkeras.support.measurements import Delegation
    from quantize.accuracy import Accuracy
    from quantize.beside import Beside
    from quantize.checks import Checked
    from quantize.post_training.artifact import LayerNote
    from quantize.runs.records import LayerError

WORST_LAYERS = 10


@dataclass(frozen=True, eq=False, slots=True)
class ExportReport:
    """The result of an export: the artifact's properties and accuracy, and whether it was written.

    `accuracy` is the reported accuracy, `validated` that on the split for decisions. `ruined` is a message
    if more than a fifth of the metric is lost there, else ""; `lost` names classes that lost as much.
    `beside` compares the artifact with float32 and plain int8. `checks` holds the results of checking the
    written file, and `problems` the reasons to refuse it. `label_file` is the consumer's own, None if it
    needs none.
    """

    file: Path
    spec: ModelSpec
    recipe: str
    io: str
    size: int
    tensors: tuple[str, ...]
    left_in_float: tuple[LayerNote, ...]
    operators: int
    delegated: Delegation
    samples: int
    seed: int
    accuracy: Accuracy | None = None
    validated: Accuracy | None = None
    ruined: str = ""
    remedies: tuple[str, ...] = ()
    passed: bool = True
    consumer: str = RAW
    nms: str = "none"
    checks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    layers: tuple[LayerError, ...] = ()
    label_file: Path | None = None
    lost: tuple[str, ...] = ()
    beside: Beside | None = None

    def to_row(self) -> dict[str, Any]:
        """The report as a plain record of kind "export"."""
        return {
            "kind": "export",
            "model": self.spec.name,
            "input_size": list(self.spec.input.size),
            "artifact": self.file.name,
            "recipe": self.recipe,
            "for": self.consumer,
            "io": self.io,
            "nms": self.nms,
            "bytes": self.size,
            "calibration_images": self.samples,
            "seed": self.seed,
            **_accuracy_row(self.accuracy),
            **_validated_row(self.validated),
            "ruined": self.ruined,
            "lost_classes": list(self.lost),
            "beside": self.beside.to_rows() if self.beside else [],
            **self.delegated.to_row(),
            "float_ops": [{"op": one.op, "layer": one.name, "why": one.why} for one in self.left_in_float],
            "remedies": list(self.remedies),
            "looks": list(self.checks),
            "problems": list(self.problems),
            "passed": self.passed,
        }


def tensors_of(artifact: bytes) -> tuple[str, ...]:
    """The inputs and outputs of a .tflite in the file's order, such as "image: uint8, 1 x 32 x 32 x 3"."""
    from effkeras.litert.flatbuffer import interface

    found = interface(artifact)
    return tuple(_described(one) for one in (*found.inputs, *found.outputs))


def _described(tensor: IOTensor) -> str:
    return f"{tensor.name}: {tensor.dtype}, {' x '.join(map(str, tensor.shape))}"


def with_check(report: ExportReport, checked: Checked) -> ExportReport:
    """The report with the results of checking the written file."""
    checks = (*map(str, checked.agreements), *checked.notes)
    return replace(report, checks=checks, problems=checked.problems, passed=not checked.problems)


def show(report: ExportReport) -> None:
    """Prints the accuracy, size and delegation of the artifact, and remedies."""
    title = f"{report.spec.name} as {report.recipe} for {report.consumer}"
    lines = [
        _accuracy_lines(report.accuracy),
        _decision_lines(report.validated),
        _cost_lines(report),
        _check_lines(report),
        _trouble_lines(report),
    ]
    facts(title, [line for some in lines for line in some])
    if report.beside is not None:
        report.beside.show()
    if report.layers:
        rows = [[one.layer, one.op, f"{one.error:.4f}"] for one in report.layers[:WORST_LAYERS]]
        table("worst layers: error as a share of the layer's spread", ["layer", "operator", "error"], rows)


def _check_lines(report: ExportReport) -> Iterator[tuple[str, str]]:
    for check in report.checks:
        yield "read back", check


def _accuracy_lines(accuracy: Accuracy | None) -> Iterator[tuple[str, str]]:
    from effkeras.inference.compare import LEVEL

    if accuracy is None:
        yield "accuracy", "not measured: give --data DIR"
        return
    for name in (accuracy.metric, *accuracy.others):
        yield (
            f"{name} float",
            f"{accuracy.model[name]:.4f} ({accuracy.images} images of {accuracy.split})",
        )
        yield f"{name} artifact", f"{accuracy.artifact[name]:.4f}"
        yield "drop", f"{accuracy.drop_of(name):.4f}"
        if name == accuracy.metric and accuracy.interval is not None:
            low, high = accuracy.interval
            yield "drop within", f"{low:.4f} to {high:.4f} ({LEVEL:.0%} interval)"
    if accuracy.agreement is not None:
        yield "agrees", f"{accuracy.agreement:.1%} of the images have the model's best class"


def _decision_lines(validated: Accuracy | None) -> Iterator[tuple[str, str]]:
    if validated is not None:
        yield "decided on", f"{validated.images} images of {validated.split}"
        yield f"drop on {validated.split}", f"{validated.worst_drop:.4f}"


def _cost_lines(report: ExportReport) -> Iterator[tuple[str, str]]:
    yield "size", f"{report.size:,} bytes"
    yield "input", report.tensors[0]
    for output in report.tensors[1:]:
        yield "output", output
    if report.nms != "none":
        yield "NMS", f"{report.nms}, on the CPU in float"
    if report.samples:
        yield "calibrated on", f"{report.samples} images"
    yield "XNNPACK runs", str(report.delegated)


def _trouble_lines(report: ExportReport) -> Iterator[tuple[str, str]]:
    if not report.left_in_float:
        yield "left in float", "nothing"
    for why, ops in _by_reason(report.left_in_float).items():
        count = f"{len(ops)} of {report.operators} ops" if len(ops) > 4 else ", ".join(ops)
        yield "left in float", f"{count}: {why}"
    for remedy in report.remedies:
        yield "remedy", remedy


def _by_reason(layers: Iterable[LayerNote]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for layer in layers:
        grouped[layer.why].append(layer.op)
    return grouped


def _accuracy_row(accuracy: Accuracy | None) -> dict[str, Any]:
    if accuracy is None:
        return {}
    return {
        "metric": accuracy.metric,
        "split": accuracy.split,
        "images": accuracy.images,
        "float_metrics": accuracy.model,
        "artifact_metrics": accuracy.artifact,
        "drop": accuracy.drop,
        "interval": None if accuracy.interval is None else list(accuracy.interval),
        "measured_on": accuracy.measured_on,
        "agreement": accuracy.agreement,
        "float_classes": dict(accuracy.model_classes),
        "artifact_classes": dict(accuracy.artifact_classes),
    }


def _validated_row(validated: Accuracy | None) -> dict[str, Any]:
    """The accuracy behind the decision, under the same keys as in rows of compressions."""
    if validated is None:
        return {}
    return {
        "validated_drop": validated.worst_drop,
        "validated_on": validated.split,
        "validated_images": validated.images,
    }
