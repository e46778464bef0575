"""Tasks: what each head of a model predicts, and the registry of all tasks.

Each module of `effkeras.inference.tasks` adds a task; a definition determines the tasks of its model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from effkeras.data.preprocess import Placement
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.inference.drawing import Drawing
from effkeras.support.registry import Registry

Outputs = Mapping[str, np.ndarray]
Record = DetectionRecord | ClassificationRecord

# From the outputs for an image and its placement in the input to the task's part of the predict record.
Describe = Callable[[Outputs, Placement], dict[str, Any]]
# A model's metric, given a weight for each image (images,).
WeightedMetric = Callable[[np.ndarray], float]


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """A model's results on each of some images; they give the metric for any weighting of the images.

    `weighted` computes the metric from `arrays`.
    """

    metric: str
    images: int
    weighted: WeightedMetric
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The metric with equal weights."""
        return self.weighted(np.ones(self.images))


class Judge(Protocol):
    """Compares a model's outputs with the ground truth, image by image, and computes metrics."""

    def add(self, record: Record, placement: Placement, outputs: Outputs) -> None:
        """Compares the outputs for one image; the arrays have no batch dimension."""

    def metrics(self) -> dict[str, float]:
        """The metrics by name, 0..1."""

    def outcomes(self) -> Outcomes | None:
        """The results per image; None if the task's metric is not computed from such results."""


class Task(ABC):
    """The prediction of one head of a model: predict records, metrics, drawing and comparison.

    `model` is what a model with this head is called. `metric` is the name of the main metric, and `meaning`
    explains it in one sentence.
    """

    model: str
    metric: str
    meaning: str

    @abstractmethod
    def applies(self, spec: ModelSpec) -> bool:
        """Whether a model with this definition has the head."""

    @abstractmethod
    def describe(self, spec: ModelSpec, min_score: float) -> Describe:
        """A function from outputs to the task's part of a predict record."""

    @abstractmethod
    def draw(self, record: Mapping[str, Any], drawing: Drawing) -> None:
        """Draws the task's part of a predict record; the record may lack it."""

    @abstractmethod
    def judge(self, spec: ModelSpec, data: LabelledData) -> Judge:
        """Creates a judge for data in the model's classes."""

    def outcomes(self, arrays: Mapping[str, np.ndarray]) -> Outcomes:
        """Outcomes from these `arrays`."""
        raise NotImplementedError(f"{self.metric} has no outcome per image")


TASKS: Registry[Task] = Registry("task", "effkeras.inference.tasks")


def tasks_of(spec: ModelSpec) -> dict[str, Task]:
    """The tasks of a model by name, one per head."""
    return {name: task for name, task in TASKS.entries().items() if task.applies(spec)}


def label_of(spec: ModelSpec, index: int) -> str:
    """A class's name; its category id or index if the definition has no names."""
    if spec.labels:
        return spec.labels[index]
    return str(spec.category_ids[index]) if spec.category_ids else str(index)
