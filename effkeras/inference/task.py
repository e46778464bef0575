"""Tasks: what each head of a model predicts, how predictions are drawn, and the registry of all tasks.

Each module of `effkeras.inference.tasks` adds a task; a definition determines the tasks of its model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from effkeras.data.preprocess import Placement
from effkeras.data.records import ClassificationRecord, DetectionRecord, LabelledData
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.confusion import ErrorKind
from effkeras.support.registry import Registry

Outputs = Mapping[str, np.ndarray]
Record = DetectionRecord | ClassificationRecord

# From the outputs for an image and its placement in the input to the task's part of the predict record.
Describe = Callable[[Outputs, Placement], dict[str, Any]]
# A model's metric, given a weight for each image (images,).
WeightedMetric = Callable[[np.ndarray], float]


@dataclass(frozen=True, slots=True)
class ClassValue:
    """The metric of one class, and the number of its objects that it was measured on."""

    value: float
    objects: int


@dataclass(frozen=True, eq=False, slots=True)
class Outcomes:
    """A model's results on each of some images; they give the metric for any weighting of the images.

    `weighted` computes the metric from `arrays`, `by_class` the metric `class_metric` of each class that the
    images show, by its index.
    """

    metric: str
    images: int
    weighted: WeightedMetric
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    class_metric: str = ""
    by_class: Callable[[], Mapping[int, ClassValue]] = dict

    @property
    def value(self) -> float:
        """The metric with equal weights."""
        return self.weighted(np.ones(self.images))


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Further metrics of a task: over all classes, and by class name.

    `overall` has metrics beside those of `Judge.metrics`. `classes` has a row of metrics and counts for each
    class that occurs. `score` is the threshold of precision, recall and F1; None in a task without one, or
    where nothing found is right. `worst` names the metric by which only the worst classes are worth printing.
    """

    overall: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]]
    score: float | None = None
    worst: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """A judged image: its score in 0..1, what was found and missed in a line, and its boxes to draw.

    `boxes` is float32 (n, 4), `classes` int64 (n,); `is_missed` is bool (n,): true boxes that were not found.
    """

    path: Path
    score: float
    line: str
    boxes: np.ndarray
    classes: np.ndarray
    is_missed: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Closeup:
    """A detection to look at, and the labelled boxes around it.

    `box` is float32 (4,), `labelled` float32 (n, 4): ymin, xmin, ymax, xmax in pixels of the image.
    """

    path: Path
    box: np.ndarray
    label: int
    score: float
    labelled: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Details:
    """What a report shows of an evaluation.

    `confusion` counts by true class (rows) and class found (columns), both named by `labels`. `curves` has
    arrays `score`, `precision`, `recall` and `f1` for each class, and for all under the name "". `errors`
    are the kinds of a detector's wrong boxes, and `unlabelled` the surest of those where nothing is labelled.
    """

    labels: tuple[str, ...]
    confusion: np.ndarray
    curves: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    errors: tuple[ErrorKind, ...] = ()
    unlabelled: tuple[Closeup, ...] = ()


class Judge(Protocol):
    """Compares a model's outputs with the ground truth, image by image, and computes metrics."""

    def add(self, record: Record, placement: Placement, outputs: Outputs) -> None:
        """Compares the outputs for one image; the arrays have no batch dimension."""

    def metrics(self) -> dict[str, float]:
        """The metrics by name, 0..1."""

    def outcomes(self) -> Outcomes | None:
        """The results per image; None if the task's metric is not computed from such results."""

    def breakdown(self, score: float | None = None) -> Breakdown:
        """Further metrics, by class too; detections count from `score` on, by default the best threshold."""

    def details(self, score: float | None = None) -> Details:
        """What a report shows, at the threshold of `breakdown`."""


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


def names_of(labels: Sequence[str]) -> tuple[str, ...]:
    """A distinct name for each class: its label; its index where the label is empty or occurs before."""
    first = {label: index for index, label in reversed(list(enumerate(labels)))}
    return tuple(
        label if label and first[label] == index else str(index) for index, label in enumerate(labels)
    )


def label_of(spec: ModelSpec, index: int) -> str:
    """A class's name; its category id or index if the definition has no names."""
    if spec.labels:
        return spec.labels[index]
    return str(spec.category_ids[index]) if spec.category_ids else str(index)


# Distinguishable with most kinds of colour vision (Okabe and Ito 2008).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")
MASK_OPACITY = 0.6
_CORNER, _LINE = 4, 16
_USUAL = 800  # pixels of an image's longer side, beyond which lines and labels grow with it


@dataclass(eq=False, slots=True)
class Drawing:
    """An image and the drawings on it: masks are always below bounding boxes.

    `pixels` is uint8 (h, w, 3). Coordinates of masks, boxes and text refer to its pixels.
    """

    pixels: np.ndarray
    _masks: list[tuple[np.ndarray, str]] = field(default_factory=list)
    _boxes: list[tuple[Sequence[float], str, str]] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    def add_mask(self, inside: np.ndarray, colour: int) -> None:
        """Tints the pixels of a mask, bool (h, w)."""
        self._masks.append((inside, PALETTE[colour % len(PALETTE)]))

    def add_box(self, box: Sequence[float], text: str, colour: int) -> None:
        """Adds a bounding box (ymin, xmin, ymax, xmax) with a label."""
        self._boxes.append((box, text, PALETTE[colour % len(PALETTE)]))

    def add_line(self, text: str) -> None:
        """Adds a line of text in the upper left corner."""
        self._lines.append(text)

    def render(self) -> np.ndarray:
        """The image with all drawings, uint8; a small one is enlarged to keep labels readable."""
        image = Image.fromarray(self._tinted())
        factor = max(1, round(384 / max(image.size)))
        size = image.width * factor, image.height * factor
        image = image.resize(size, Image.Resampling.BICUBIC)
        pen, scale = ImageDraw.Draw(image), max(1.0, max(size) / _USUAL)
        for box, _, colour in self._boxes:
            ymin, xmin, ymax, xmax = (value * factor for value in box)
            pen.rectangle((xmin, ymin, xmax, ymax), outline=colour, width=round(2 * scale))
        for box, text, colour in self._boxes:  # no box crosses out a label
            _write(pen, (box[1] * factor, box[0] * factor), text, colour, scale)
        for number, text in enumerate(self._lines, start=1):
            _write(pen, (_CORNER * scale, _LINE * number * scale), text, PALETTE[0], scale)
        return np.asarray(image)

    def _tinted(self) -> np.ndarray:
        pixels = np.asarray(self.pixels, np.float32)
        for inside, colour in self._masks:
            opacity = np.where(inside, MASK_OPACITY, 0)[..., None]
            pixels = pixels + (np.array(ImageColor.getrgb(colour)) - pixels) * opacity
        return np.rint(pixels).astype(np.uint8)


def _write(
    pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: str, scale: float
) -> None:
    font = ImageFont.load_default(size=12 * scale)
    left, top = corner[0] + 2 * scale, max(0, corner[1] - 14 * scale)
    pen.rectangle(pen.textbbox((left, top), text, font=font), fill=colour)
    pen.text((left, top), text, fill=ink_on(colour), font=font)


def ink_on(colour: str) -> str:
    """Black or white, whichever contrasts more with a colour."""
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#FFFFFF"
