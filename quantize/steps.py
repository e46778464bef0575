"""The steps of a recipe behind one form: begin, train, finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from effkeras.data.records import LabelledData
from effkeras.models import spec_of
from effkeras.training.hooks import Hook
from quantize.aware.quantization_aware import qat
from quantize.channels.pruning import prune_channels, round_of
from quantize.distillation import approach, probe
from quantize.magnitude.clustering import ClusterHook, cluster, finish_clustering
from quantize.magnitude.pruning import PruneHook, finish_pruning
from quantize.plans import Plan
from quantize.report import Compressed, StepReport
from quantize.rewriting.friendly import friendly
from quantize.specs import ChannelSpec, ClusterSpec, DistillSpec, FriendlySpec, PruneSpec, QatSpec

StepSpec = FriendlySpec | ChannelSpec | PruneSpec | ClusterSpec | QatSpec | DistillSpec
Begin = Callable[[keras.Model], Compressed]
# The model that a step began with, as `begin` left it, and after its training.
Finish = Callable[[Compressed, keras.Model], Compressed]


def _as_trained(begun: Compressed, trained: keras.Model) -> Compressed:
    return Compressed(trained, begun.report)


def _unchanged(name: str) -> Begin:
    return lambda model: Compressed(model, StepReport(name, ()))


def _no_hooks() -> tuple[Hook, ...]:
    return ()


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One step of a recipe.

    `begin` changes the model; the result is then trained with `hooks`; `finish` makes what the step leaves
    behind, and gives the report. None of them changes the model that it is given. `spec` is what the recipe
    says of it.
    """

    name: str
    spec: StepSpec
    begin: Begin
    hooks: Callable[[], tuple[Hook, ...]] = _no_hooks
    finish: Finish = _as_trained


@dataclass(frozen=True, eq=False, slots=True)
class Setting:
    """What steps may look at; `original` is the model that compression started from, `train` the data."""

    original: keras.Model
    train: LabelledData
    seed: int = 0

    def probe(self, model: keras.Model) -> np.ndarray:
        """Some training pictures as a model takes them: float32 (n, H, W, 3)."""
        return probe(self.train, spec_of(model), self.seed)


def steps_of(plan: Plan, setting: Setting) -> list[Step]:
    """The steps of a recipe in order; none when it only makes an artifact."""
    return list(_steps(plan, setting))


def _steps(plan: Plan, setting: Setting) -> Iterator[Step]:
    steps = plan.steps
    if steps.friendly is not None:
        yield _friendly(steps.friendly, setting)
    if steps.channels is not None:
        yield from _channels(steps.channels, setting)
    if steps.prune is not None:
        yield _prune(steps.prune)
    if steps.cluster is not None:
        yield _cluster(steps.cluster)
    if steps.qat is not None:
        yield _qat(steps.qat, setting)
    if steps.distill is not None and not plan.changes_layers:
        yield _distill(steps.distill, setting)


def _friendly(spec: FriendlySpec, setting: Setting) -> Step:
    return Step("friendly", spec, lambda model: friendly(model, spec, pictures=setting.probe(model)))


def _channels(spec: ChannelSpec, setting: Setting) -> Iterator[Step]:
    once = round_of(spec)
    for number in range(1, spec.rounds + 1):
        name = "channels" if spec.rounds == 1 else f"channels{number}"
        yield Step(name, once, lambda model: prune_channels(model, once, setting.train))


def _prune(spec: PruneSpec) -> Step:
    return Step(
        "prune",
        spec,
        begin=_unchanged("prune"),
        hooks=lambda: (PruneHook(spec),),
        finish=lambda begun, trained: finish_pruning(begun.model, trained, spec),
    )


def _cluster(spec: ClusterSpec) -> Step:
    return Step(
        "cluster",
        spec,
        begin=lambda model: cluster(model, spec),
        hooks=lambda: (ClusterHook(spec),),
        finish=lambda begun, trained: finish_clustering(begun.model, trained, spec),
    )


def _distill(spec: DistillSpec, setting: Setting) -> Step:
    def finish(begun: Compressed, trained: keras.Model) -> Compressed:
        return Compressed(trained, approach(trained, setting.original, setting.probe(trained), spec))

    return Step("distill", spec, _unchanged("distill"), finish=finish)


def _qat(spec: QatSpec, setting: Setting) -> Step:
    return Step("qat", spec, lambda model: qat(model, setting.train, spec, seed=setting.seed))
