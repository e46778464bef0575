"""Magnitude pruning: the smallest weights become zero, at once or gradually during training.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878). Schedules equal those of
tensorflow-model-optimization, and so do the masks with scope "layer", for the layers that it supports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from effkeras.graph.rewrite import Graph, check_finite, rewrite
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import to_record
from effkeras.training.callbacks import FitHook
from quantize.magnitude.patterns import Groups, parse_pattern, pruning_masks
from quantize.magnitude.selection import KernelFilter, Selection, Target, select
from quantize.magnitude.sparsity import relative_change, sparsity_of, stored_sizes
from quantize.report import Compressed, LayerReport, StepReport
from quantize.specs import PruneSpec

STEP = "prune"
ERROR_IS = "norm of what was removed / norm of the weights"

Array = np.ndarray


def prune(model: keras.Model, spec: PruneSpec | None = None) -> Compressed:
    """Sets the smallest weights of a model to zero, without training.

    Args:
        model: any functional Keras model with one input; it is not changed.
        spec: which weights become zero; the default is half of them. Its schedule is only for training.

    Returns:
        A plain model with the same layers, nested models made flat, and a report with an entry per layer
        that has a kernel.

    Raises:
        EffkerasError: the `spec` cannot be met, weights are NaN or infinite, or there is no layer to prune.
    """
    spec = spec or PruneSpec()
    check_finite(model)
    graph = Graph.of(model)
    chosen = select_prunable(graph, spec)
    pruned = rewrite(graph, {})
    masks = _masks([target.array(pruned) for target in chosen.targets], spec, spec.sparsity)
    for target, mask in zip(track(chosen.targets, "pruning"), masks, strict=True):
        target.variable(pruned).assign(np.where(mask, target.array(pruned), 0))
    return finish_pruning(graph.model, pruned, spec)


def finish_pruning(before: keras.Model, after: keras.Model, spec: PruneSpec) -> Compressed:
    """The report of a pruned model, pruned at once or with a `PruneHook`.

    Args:
        before: the model before pruning.
        after: the pruned model with the same layer names. It is plain: its kernels hold the zeros.
        spec: the spec of the pruning.
    """
    graph = Graph.of(before)
    before, chosen = graph.model, select_prunable(graph, spec)
    done = [_entry(target, target.array(before), target.array(after)) for target in chosen.targets]
    kernels = [target.array(after) for target in chosen.targets]
    figures = {
        "sparsity": 1 - sum(map(np.count_nonzero, kernels)) / sum(one.size for one in kernels),
        "model_sparsity": sparsity_of(after).share,
        **stored_sizes(after),
        "gzipped_before": stored_sizes(before)["gzipped_bytes"],
    }
    return Compressed(after, StepReport(STEP, (*done, *chosen.skipped), ERROR_IS, figures))


def select_prunable(graph: Graph, spec: PruneSpec) -> Selection:
    """The kernels that a spec prunes; raises EffkerasError for an invalid spec."""
    check_prune_spec(spec)
    pattern = parse_pattern(spec.pattern)
    choice = KernelFilter(spec.skip, spec.depthwise, spec.layers == "1x1")
    return select(graph, choice, lambda kernel: pattern.unfit(kernel.shape))


def check_prune_spec(spec: PruneSpec) -> None:
    """Raises EffkerasError for values out of range."""
    to_record(PruneSpec, dataclasses.asdict(spec), STEP)
    pattern = parse_pattern(spec.pattern, spec.pooling)
    if isinstance(pattern, Groups) and spec.scope == "global":
        raise EffkerasError(f"{STEP}: {spec.pattern} has no global threshold; give scope auto or layer")
    for name, is_right, wanted in (
        ("sparsity", 0 <= spec.sparsity < 1, "at least 0 and below 1"),
        ("start", 0 <= spec.start <= spec.sparsity or spec.schedule == "constant", "0 to sparsity"),
        ("begin", 0 <= spec.begin <= 1, "a share of the training, 0 to 1"),
        ("end", spec.begin <= spec.end <= 1, "a share of the training, from begin to 1"),
        ("power", spec.power > 0, "above 0"),
        ("every", spec.every >= 1, "at least 1"),
    ):
        if not is_right:
            raise EffkerasError(f"{STEP}: {name} must be {wanted}, not {getattr(spec, name)}")


class PruneHook(FitHook):
    """Prunes a model while it trains, in `tune` or `fit`: `model.fit(..., callbacks=[PruneHook(spec)])`.

    The masks are updated before each step of the schedule, and applied after every training step, so that
    the optimizer's momentum does not bring a pruned weight back.

    Args:
        spec: which weights become zero, and when.

    Raises:
        EffkerasError: the `spec` is invalid; when training starts: there is no layer to prune, weights are
            NaN or infinite, or `fit` does not know its number of steps.
    """

    def __init__(self, spec: PruneSpec):
        super().__init__()
        check_prune_spec(spec)
        self._spec = spec
        self._targets: tuple[Target, ...] = ()
        self._step: keras.Variable
        self._masks: list[keras.Variable] = []
        self._schedule: Schedule
        self._apply: Callable[[], None]

    def attach(self, model: keras.Model, total_steps: int) -> None:
        """Finds the kernels, scales the schedule to the training, and starts with masks that keep all."""
        import tensorflow as tf

        super().attach(model, total_steps)
        if not total_steps:
            raise EffkerasError("pruning needs to know how long fit trains: give fit steps_per_epoch")
        is_grouped = isinstance(parse_pattern(self._spec.pattern), Groups)
        self._schedule = (Schedule.once if is_grouped else Schedule.of)(self._spec, total_steps)
        self._targets = select_prunable(Graph.of(model), self._spec).targets
        kernels = [target.variable(model) for target in self._targets]
        self._step = keras.Variable(0, dtype="int64", trainable=False, name="prune_step")
        self._masks = [_mask_for(kernel) for kernel in kernels]
        self._apply = tf.function(lambda: apply_masks(kernels, self._masks), autograph=False)

    @property
    def complete_from(self) -> int:
        """The step of the last update of the masks."""
        return self._schedule.end

    def state(self) -> list[keras.Variable]:
        """The number of finished steps, and the masks."""
        return [self._step, *self._masks]

    def finalize(self, model: keras.Model) -> None:
        """Applies the masks to another model with the same layer names."""
        apply_masks([target.variable(model) for target in self._targets], self._masks)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Attaches the hook if it is not attached yet."""
        if self.model.steps_per_execution != 1:
            raise EffkerasError("pruning changes masks between steps: compile with steps_per_execution=1")
        super().on_train_begin(logs)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Updates the masks at the steps of the schedule."""
        self._step.assign(self._step + 1)
        step = int(self._step)
        if self._schedule.is_turn(step):
            self._update(step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Applies the masks."""
        self._apply()

    def _update(self, step: int) -> None:
        kernels = [target.array(self.trained) for target in self._targets]
        for target, kernel in zip(self._targets, kernels, strict=True):
            if not np.isfinite(kernel).all():
                raise EffkerasError(
                    f"the training diverged: at step {step} the layer {target.name!r} has weights that are "
                    "not finite; use a smaller learning rate"
                )
        masks = _masks(kernels, self._spec, self._schedule.sparsity(step))
        for variable, mask in zip(self._masks, masks, strict=True):
            variable.assign(mask)
        self._apply()


def apply_masks(kernels: Sequence[keras.Variable], masks: Sequence[keras.Variable]) -> None:
    """Sets kernels to zero where their masks are False."""
    import tensorflow as tf

    for kernel, mask in zip(kernels, masks, strict=True):
        # A product would keep the sign of zeros, and NaN or infinite values.
        kernel.assign(tf.where(mask.value, kernel.value, tf.zeros([], kernel.dtype)))


def _masks(kernels: Sequence[Array], spec: PruneSpec, sparsity: float) -> list[Array]:
    scope = "global" if spec.scope == "auto" else spec.scope  # n:m ignores it
    return pruning_masks(kernels, parse_pattern(spec.pattern, spec.pooling), sparsity, scope)


def _entry(target: Target, before: Array, after: Array) -> LayerReport:
    zeros = 1 - np.count_nonzero(after) / after.size
    removed = relative_change(before, np.where(after != 0, before, 0))
    return LayerReport(target.name, target.kind, "done", f"sparsity {zeros:.3f}", removed)


def _mask_for(kernel: keras.Variable) -> keras.Variable:
    return keras.Variable(np.ones(kernel.shape, bool), dtype="bool", trainable=False, name="prune_mask")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Polynomial growth of the sparsity (Zhu & Gupta 2017, arXiv:1710.01878, equation 1).

    From step `begin` to step `end`, at every `every`-th step, the sparsity is

        final + (start - final) * (1 - (step - begin) / (end - begin)) ** power

    in float32. Steps count from 1. With `start` equal to `final` the sparsity is constant. The values equal
    those of PolynomialDecay and ConstantSparsity in tensorflow-model-optimization.
    """

    start: float
    final: float
    begin: int
    end: int
    every: int = 1
    power: float = 3.0

    @classmethod
    def of(cls, spec: PruneSpec, steps: int) -> Schedule:
        """The schedule for a training of `steps` steps.

        The last update is a multiple of `every` steps after `begin`, at full sparsity: a schedule that ends
        between two updates would not reach it.
        """
        begin = min(steps, max(1, round(spec.begin * steps)))
        length = max(0, round(spec.end * steps) - begin)
        every = min(spec.every, max(1, length))
        start = spec.start if spec.schedule == "polynomial" else spec.sparsity
        return cls(start, spec.sparsity, begin, begin + length // every * every, every, spec.power)

    @classmethod
    def once(cls, spec: PruneSpec, steps: int) -> Schedule:
        """A schedule with a single update, to full sparsity."""
        begin = min(steps, max(1, round(spec.begin * steps)))
        return cls(spec.sparsity, spec.sparsity, begin, begin)

    def is_turn(self, step: int) -> bool:
        """Whether the masks are updated at this step, before its forward pass."""
        return self.begin <= step <= self.end and (step - self.begin) % self.every == 0

    def sparsity(self, step: int) -> float:
        """The share of zeros at a step."""
        one = np.float32(1)
        left = (one - self._progress(step)) ** np.float32(self.power)
        return float(np.float32(self.start - self.final) * left + np.float32(self.final))

    def _progress(self, step: int) -> np.float32:
        if self.end <= self.begin:
            return np.float32(step >= self.begin)
        share = np.float32(step - self.begin) / np.float32(self.end - self.begin)
        return np.clip(share, np.float32(0), np.float32(1))
