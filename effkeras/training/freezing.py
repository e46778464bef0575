"""Which layers train and how fast: frozen parts, their unfreezing, and learning rates by stage.

A stage is the part of the backbone between two halvings of the image: stage 1 ends at half its size, stage 5
at a 32nd, as in ResNet's C1 to C5 and the levels of a feature pyramid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from effkeras.building.external import is_in_backbone
from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError
from effkeras.training.optimizers import Rules, UpdateRule
from effkeras.training.settings import TrainSettings, frozen_stages

_WITHOUT_SIZE = (1, None)


def stages_of(model: keras.Model, spec: ModelSpec) -> dict[str, int]:
    """The stage of each layer of the backbone with weights, by its name, from 1."""
    is_ours = is_in_backbone(spec)
    stages: dict[str, int] = {}
    stage = 1
    for layer in _flat(model):
        if is_ours(layer.name):
            height = _height(layer)
            if height not in _WITHOUT_SIZE:  # such as those of squeeze-and-excitation
                stage = max(1, round(math.log2(spec.input.size[0] / height)))
            if layer.weights:
                stages[layer.name] = stage
    return stages


def frozen_layers(model: keras.Model, spec: ModelSpec, what: str) -> tuple[Any, ...]:
    """The layers that the setting `freeze` names; EffkerasError for more stages than there are."""
    if what == "none":
        return ()
    if what == "backbone":
        is_ours = is_in_backbone(spec)
        return tuple(layer for layer in _flat(model) if is_ours(layer.name))
    count, stages = frozen_stages(what), stages_of(model, spec)
    last = max(stages.values())
    if count > last:
        raise EffkerasError(f"{spec.name} has {last} stages to freeze, not {count}; backbone freezes all")
    return tuple(layer for layer in _flat(model) if stages.get(layer.name, math.inf) <= count)


def rules_for(model: keras.Model, spec: ModelSpec, settings: TrainSettings) -> Rules:
    """How the optimizer updates the variables of the backbone, by their paths; {} if like the others.

    The last stage learns with `backbone_rate` times the learning rate, each one before it with `layer_decay`
    times that of the next.
    """
    if settings.backbone_rate == 1 and settings.layer_decay == 1 and not settings.unfreeze_at:
        return {}
    stages = stages_of(model, spec)
    late = (
        {layer.name for layer in frozen_layers(model, spec, settings.freeze)} if settings.unfreeze_at else ()
    )
    return {
        variable.path: UpdateRule(
            _rate(settings, max(stages.values()) - stages[layer.name]), layer.name in late
        )
        for layer in _flat(model)
        if layer.name in stages
        for variable in layer.trainable_variables
    }


def _rate(settings: TrainSettings, stages_above: int) -> float:
    return settings.backbone_rate * settings.layer_decay**stages_above


class Unfreeze(keras.callbacks.Callback):
    """Keeps layers frozen until a training has come to `unfreeze_at`, then trains them as well.

    Batch normalisation in them keeps its statistics as long. TensorFlow traces the step a second time then.

    Args:
        layers: what to freeze; may be none.
        unfreeze_at: below 1 a share of the training, else a step.
        first: the number of steps before this `fit`.
        share: the share of the training that is over after a number of steps.
    """

    def __init__(self, layers: Sequence[Any], unfreeze_at: float, first: int, share: Callable[[int], float]):
        super().__init__()
        self._layers = tuple(layers)
        self._at, self._share = unfreeze_at, share
        self._step = first
        self._is_frozen = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Freezes the layers, unless they train by now."""
        self._is_frozen = bool(self._layers) and not self._is_over()
        if self._is_frozen:
            self._set(trainable=False)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Unfreezes the layers in time for this step."""
        if self._is_frozen and self._is_over():
            self._is_frozen = False
            self._set(trainable=True)
        self._step += 1

    def _is_over(self) -> bool:
        return (self._share(self._step) if self._at < 1 else self._step) >= self._at

    def _set(self, *, trainable: bool) -> None:
        for layer in self._layers:
            layer.trainable = trainable
        self.model.make_train_function(force=True)


def _flat(model: keras.Model) -> Iterator[Any]:
    """The layers of a model and of those in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _height(layer: Any) -> int | None:
    """The height of the map that a layer puts out; None for anything else."""
    calls = layer._inbound_nodes  # a shared layer has no one `output`
    shape: tuple[int | None, ...] = calls[0].output_tensors[0].shape if calls else ()
    return shape[1] if len(shape) == 4 else None
