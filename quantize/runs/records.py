"""The records of a run that a report shows, and their figures as texts: artifacts, measurements, training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effkeras.definitions.definition import ModelSpec
from effkeras.inference.evaluate import headline
from effkeras.support.measurements import Delegation, Latency
from effkeras.support.pages import MISSING, NOT_REPORTED, Sheet

KERAS = "model.keras"
USUAL = ("float32", "int8")
XNNPACK, PLAIN = "XNNPACK", "plain"


@dataclass(frozen=True, slots=True)
class Environment:
    """The tool versions and the machine of a measurement."""

    python: str
    versions: tuple[tuple[str, str], ...]
    cpu: str
    cores: str
    system: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Metrics in 0..1, with the split and the number of images that they were measured on."""

    metrics: Mapping[str, float]
    split: str
    images: int

    @property
    def measured_on(self) -> tuple[str, int]:
        """Split and number of images; only accuracies with equal values are comparable."""
        return self.split, self.images


@dataclass(frozen=True, order=True, slots=True)
class Setting:
    """The kernels, threads and device that ran an artifact; `phone` is "" for this machine."""

    kernels: str
    threads: int
    phone: str = ""

    @property
    def is_delegate(self) -> bool:
        """Whether it is anything but LiteRT's own kernels (XNNPACK or plain) on this machine's CPU."""
        return bool(self.phone) or self.kernels not in (XNNPACK, PLAIN)


@dataclass(frozen=True, slots=True)
class Measured:
    """A latency and the setting and environment of its measurement.

    `tool` is the version of benchmark_model for a measurement on a phone, "" otherwise.
    """

    setting: Setting
    latency: Latency
    environment: Environment | None = None
    tool: str = ""


@dataclass(frozen=True, slots=True)
class LayerError:
    """The error of an operator's output as a share of its spread in float, as an export compared it.

    `place` counts the operators of the graph from 1; 0 where an earlier version did not record it.
    """

    layer: str
    op: str
    error: float
    place: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file and its measurements; missing ones are None or ().

    `rejected` is the drop of the newest export if that export was refused, else None. `by_class` is AP50,
    top1 or IoU of each class. `interval` is the 95 % interval of the drop, `layers` the quantization errors,
    largest first, and `macs` the multiply-adds of one image. `lost` names classes that lost a fifth or more.
    `float_size` is the size of the same network as float32, as the export measured it.
    """

    file: str
    recipe: str = ""
    io: str = ""
    size: int | None = None
    accuracy: Accuracy | None = None
    drop: float | None = None
    delegation: Delegation | None = None
    measured: tuple[Measured, ...] = ()
    environment: Environment | None = None
    rejected: float | None = None
    by_class: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    consumer: str = ""
    calibrated_on: int = 0
    lost: tuple[str, ...] = ()
    layers: tuple[LayerError, ...] = ()
    macs: int | None = None
    float_size: int | None = None

    @property
    def exists(self) -> bool:
        """Whether anything is known of the file; else it only stands for a usual recipe."""
        return self.size is not None or self.accuracy is not None or bool(self.measured)

    @property
    def name(self) -> str:
        """The name in tables and charts."""
        if self.file == KERAS:
            return "Keras float model"
        stem = self.file.removesuffix(".tflite")
        return stem if stem.startswith(self.recipe) else f"{stem} ({self.recipe})"

    def path_in(self, run: Path) -> Path | None:
        """Its path in a run folder; None where the file is not there, or its name leads elsewhere."""
        file = run / "artifacts" / self.file
        return file if file.name == self.file and file.exists() else None

    @property
    def left_out(self) -> float | None:
        """The percentage of operators that XNNPACK does not run; None where it is not known."""
        known = self.delegation is not None and self.delegation.delegated_ops is not None
        return 100 * (1 - self.delegation.share) if self.delegation and known else None

    def latency(self, setting: Setting) -> Latency | None:
        """The latency under a setting; None if it was not measured."""
        return next((one.latency for one in self.measured if one.setting == setting), None)


def sorted_measured(artifact: Artifact) -> list[Measured]:
    """The measurements in order: XNNPACK, plain kernels, then delegates; few threads before many."""

    def order(one: Measured) -> tuple[bool, bool, Setting]:
        return one.setting.is_delegate, one.setting.kernels != XNNPACK, one.setting

    return sorted(artifact.measured, key=order)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Loss and metrics of a validation during training: its epoch, from 1, and its step if it is known."""

    number: int
    loss: float | None
    metrics: Mapping[str, float]
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a model was trained on and from: unknown values are "" or None.

    `splits` has the number of images of each split. `steps` or `epochs` is the length that was asked for.
    `start` names the weights that the training began with.
    """

    data: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    steps: int | None = None
    epochs: int | None = None
    start: str = ""


@dataclass(frozen=True, slots=True)
class RunData:
    """A run folder: its definition, the measured Keras model and artifacts, epochs and drawn samples.

    `details` and `sheets` are what `effkeras eval` kept of the Keras model: see `evaluation_files`.
    `comparisons` compare it with an artifact.
    """

    folder: Path
    spec: ModelSpec
    keras: Artifact
    artifacts: tuple[Artifact, ...]
    epochs: tuple[Epoch, ...] = ()
    samples: tuple[Path, ...] = ()
    details: Mapping[str, Any] | None = None
    sheets: tuple[Path, ...] = ()
    trained: Trained = Trained()
    comparisons: tuple[Sheet, ...] = ()

    @property
    def files(self) -> tuple[Artifact, ...]:
        """The Keras model, and the artifacts of which something is known."""
        return (self.keras, *(one for one in self.artifacts if one.exists))

    @property
    def metric(self) -> str:
        """The main metric of the model."""
        return headline(self.spec)

    @property
    def name(self) -> str:
        """The name of the run: that of its folder."""
        return self.folder.resolve().name

    def score(self, artifact: Artifact) -> float | None:
        """An artifact's value of `metric`; None if it was not measured."""
        return artifact.accuracy.metrics.get(self.metric) if artifact.accuracy else None

    def best_by_size(self) -> frozenset[str]:
        """The Pareto-optimal files of the run in accuracy and size."""
        return self._best({one.file: one.size for one in self.artifacts})

    def best_by_latency(self, setting: Setting) -> frozenset[str]:
        """The Pareto-optimal files of the run in accuracy and median latency."""
        found = {one.file: one.latency(setting) for one in self.artifacts}
        return self._best({file: one.median_ms if one else None for file, one in found.items()})

    def best_by_macs(self) -> frozenset[str]:
        """The Pareto-optimal files of the run in accuracy and multiply-adds."""
        return self._best({one.file: one.macs for one in self.artifacts})

    def best_by_delegation(self) -> frozenset[str]:
        """The Pareto-optimal files of the run in accuracy and operators that XNNPACK leaves out."""
        return self._best({one.file: one.left_out for one in self.artifacts})

    def _best(self, costs: Mapping[str, float | None]) -> frozenset[str]:
        points = {
            one.file: (cost, score)
            for one in self.artifacts
            if (cost := costs[one.file]) is not None and (score := self.score(one)) is not None
        }
        return frozenset(file for file, own in points.items() if not _is_beaten(own, points.values()))


def _is_beaten(own: tuple[float, float], others: Iterable[tuple[float, float]]) -> bool:
    """Whether another point costs no more, scores no less, and is better in at least one of the two."""
    return any(cost <= own[0] and score >= own[1] and (cost, score) != own for cost, score in others)


def metric(value: float | None) -> str:
    """A metric in 0..1 as text with four decimals."""
    return MISSING if value is None else f"{value:.4f}"


def size(count: int | None) -> str:
    """Bytes as kB or MB (powers of 1000); kB below 10 MB, so that sizes of small models compare easily."""
    if count is None:
        return MISSING
    return f"{count / 1e6:,.2f} MB" if count >= 1e7 else f"{count / 1e3:,.1f} kB"


def setting_name(setting: Setting) -> str:
    """A setting in words."""
    kernels = "plain kernels" if setting.kernels == PLAIN else setting.kernels
    threads = f"{setting.threads} thread" + ("s" if setting.threads != 1 else "")
    return f"{kernels}, {threads}" + (f" on {setting.phone}" if setting.phone else "")


def milliseconds(value: float | None) -> str:
    """A time as text with two decimals."""
    return NOT_REPORTED if value is None else f"{value:.2f}"


def within(interval: tuple[float, float] | None) -> str:
    """The ends of an interval as text."""
    return MISSING if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
