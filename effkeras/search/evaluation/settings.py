"""How candidates are evaluated, and on what: plain data that travels to any worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from effkeras.data.augmentations import AugmentSpec
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.training.settings import TrainSettings

PROXY = "proxy:"
PROXIES = ("synflow", "parameters", "macs")
KINDS = ("train", *(PROXY + name for name in PROXIES))
# Kinds of earlier versions. None of them ranked networks better than their multiply-adds do.
REMOVED_KINDS = ("supernet", "proxy:naswot", "proxy:grad_norm")
# Keys of earlier versions that no longer have a meaning.
REMOVED_KEYS = ("supernet_epochs",)
TABLE = "table:"
COSTS = ("parameters", "macs", "bytes", "latency_ms")


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """What "bytes" and "latency_ms" are of: the .tflite of a candidate, and what runs it.

    `precision` "int8" has weights and activations in int8; `threads` is also which figures of a block table
    are read. `runs` inferences are timed, a fifth as many before them are not.
    """

    precision: Literal["float32", "int8"] = "float32"
    threads: int = 1
    runs: int = 50


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """Everything that shapes an evaluation.

    `kind` is "train", a short training of each candidate, or "proxy:NAME", which needs no training.
    `costs` names what is measured beside it: parameters, macs, bytes, latency_ms, or table:FILE for a latency
    from a table of blocks (a path relative to the file of the settings).

    `learning_rate` is the peak, for the batch size given. `patience` counts epochs without a better accuracy
    before a training ends; 0 always trains to the end. At most `train_images` and `validation_images`
    are used, spread over the data; 0 is all. `augment` are the changes that images go through; None leaves
    them as they are, which is faster.
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
        """The same as settings of a training, of the evaluation's own number of epochs by default."""
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
    """Where the images lie; each worker reads them itself."""

    root: Path
    skip_bad: bool = False


def checked(settings: EvaluationSettings, where: str = "evaluation") -> EvaluationSettings:
    """The settings, with each cost once; EffkerasError when a value makes no sense."""
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
    for name, least in _LEAST.items():
        if getattr(settings, name) < least:
            raise EffkerasError(f"{where}: {name} must be at least {least}, not {getattr(settings, name)}")
    if not settings.learning_rate > 0:
        raise EffkerasError(f"{where}: learning_rate must be above 0, not {settings.learning_rate}")
    if min(settings.artifact.threads, settings.artifact.runs) < 1:
        raise EffkerasError(f"{where}: threads and runs of the artifact must be at least 1")
    return replace(settings, costs=tuple(dict.fromkeys(settings.costs)))


_LEAST = {
    "epochs": 1,
    "batch": 2,  # batch normalisation of a single image says nothing
    "weight_decay": 0,
    "patience": 0,
    "train_images": 0,
    "validation_images": 0,
}


def located(cost: str, folder: Path) -> str:
    """The name of a cost with its table's path absolute, which means the same in every process and folder.

    A relative path is one in `folder`.
    """
    file = cost.removeprefix(TABLE)
    return f"{TABLE}{(folder / file).resolve()}" if file and file != cost else cost


def check_cost(name: str) -> None:
    """Raises EffkerasError when nothing is called so."""
    if name not in COSTS and not (name.startswith(TABLE) and name != TABLE):
        raise EffkerasError(f"there is no cost {name!r}; {did_you_mean(name, (*COSTS, TABLE + 'FILE'))}")
