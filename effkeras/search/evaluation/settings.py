"""The interface of evaluations, and their settings and data as plain data that is pickled for the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from effkeras.data.augmentations import AugmentSpec
from effkeras.data.records import ReadOptions
from effkeras.search.genomes import Genome
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.training.settings import TrainSettings

PROXY = "proxy:"
PROXIES = ("synflow", "parameters", "macs")
KINDS = ("train", *(PROXY + name for name in PROXIES))
# Kinds of earlier versions. None of them ranked networks better than multiply-adds do.
REMOVED_KINDS = ("supernet", "proxy:naswot", "proxy:grad_norm")
# Keys of earlier versions that no longer have a meaning.
REMOVED_KEYS = ("supernet_epochs",)
TABLE = "table:"
COSTS = ("parameters", "macs", "bytes", "latency_ms")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genome to evaluate; `seed` is drawn from the search's seed and the genome."""

    genome: Genome
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an evaluation.

    `accuracy` is the task's metric in 0..1 on the validation split; `metrics` holds further values
    (proxies, epochs trained, seconds).
    """

    accuracy: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Report(Protocol):
    """Receives the progress of an evaluation, and may end it."""

    def __call__(self, step: int, accuracy: float) -> None:
        """Called after epoch `step`, from 1; raises `Pruned` to end the evaluation."""
        ...


class Evaluator(Protocol):
    """Evaluates candidates; any exception except `Pruned` means that the candidate failed."""

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """The costs of a candidate by name; called once, before the evaluation, which limits may skip."""
        ...

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Evaluates a candidate; equal candidates give equal outcomes, except for measured times."""
        ...


class Pruned(Exception):  # noqa: N818 - no error
    """Ends an evaluation early because other candidates are more promising.

    The candidate keeps the last accuracy that it reported.
    """


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """How the .tflite for "bytes" and "latency_ms" is made and timed.

    With `precision` "int8", weights and activations are int8. `threads` also selects the values to read from
    a block table. `runs` inferences are timed, after a fifth as many for warm-up.
    """

    precision: Literal["float32", "int8"] = "float32"
    threads: int = 1
    runs: int = 50


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """The settings of an evaluation.

    `kind` is "train", a short training of each candidate, or "proxy:NAME", which needs no training.
    `costs` names the costs to measure: parameters, macs, bytes, latency_ms, or table:FILE for a latency
    from a table of blocks (a path relative to the file of the settings).

    `learning_rate` is the peak, for the given batch size. `patience` is the number of epochs without a
    better accuracy after which a training ends; 0 always trains to the end. At most `train_images` and
    `validation_images` are used, spread over the data; 0 means all. `augment` has the augmentations; None
    trains without any, which is faster.
    """

    kind: str = "train"
    costs: tuple[str, ...] = ("parameters", "macs")
    epochs: int = 8
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    patience: int = 0
    train_images: int = 0
    validation_images: int = 0
    augment: AugmentSpec | None = None
    artifact: ArtifactSettings = ArtifactSettings()

    def training(self, seed: int, epochs: int = 0) -> TrainSettings:
        """The settings of a training; `epochs` of 0 means the number of epochs of the evaluation."""
        return TrainSettings(
            epochs=epochs or self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            seed=seed,
            augment=self.augment or AugmentSpec(),
        )


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """The data set, and how to read it; each worker reads the images itself."""

    root: Path
    skip_bad: bool = False
    one_based: bool = False

    def options(self, *, masks: bool) -> ReadOptions:
        """How to read a split."""
        return ReadOptions(self.skip_bad, masks, self.one_based)


def checked(settings: EvaluationSettings, where: str = "evaluation") -> EvaluationSettings:
    """The settings with each cost once; raises EffkerasError for an invalid value."""
    if settings.kind in REMOVED_KINDS:
        raise EffkerasError(
            f"{where}: {settings.kind} was removed, as it ranked networks no better than their multiply-adds "
            "do; use train or proxy:macs"
        )
    if settings.kind not in KINDS:
        raise EffkerasError(
            f"{where}: there is no kind {settings.kind!r}; {did_you_mean(settings.kind, KINDS)}"
        )
    for name in settings.costs:
        check_cost(name)
    for name, minimum in _MINIMA.items():
        if getattr(settings, name) < minimum:
            raise EffkerasError(f"{where}: {name} must be at least {minimum}, not {getattr(settings, name)}")
    if not settings.learning_rate > 0:
        raise EffkerasError(f"{where}: learning_rate must be above 0, not {settings.learning_rate}")
    if min(settings.artifact.threads, settings.artifact.runs) < 1:
        raise EffkerasError(f"{where}: threads and runs of the artifact must be at least 1")
    return replace(settings, costs=tuple(dict.fromkeys(settings.costs)))


_MINIMA = {
    "epochs": 1,
    "batch": 2,  # batch normalization needs more than one image
    "weight_decay": 0,
    "patience": 0,
    "train_images": 0,
    "validation_images": 0,
}


def located(cost: str, folder: Path) -> str:
    """The name of a cost with the absolute path of its table, which is valid in every process and folder.

    A relative path is relative to `folder`.
    """
    file = cost.removeprefix(TABLE)
    return f"{TABLE}{(folder / file).resolve()}" if file and file != cost else cost


def check_cost(name: str) -> None:
    """Raises EffkerasError for an unknown cost."""
    if name not in COSTS and not (name.startswith(TABLE) and name != TABLE):
        raise EffkerasError(f"there is no cost {name!r}; {did_you_mean(name, (*COSTS, TABLE + 'FILE'))}")
