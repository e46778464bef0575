"""What a step adds to a training: something that happens between batches and has a state of its own."""

from __future__ import annotations

from typing import Any

import keras


class Hook(keras.callbacks.Callback):
    """A callback whose state belongs to the training: checkpointed, and restored when it is resumed.

    Keras's own `self.model` may be a wrapper; `self.trained` is the model whose weights are trained.
    """

    trained: keras.Model
    total_steps: int

    def attach(self, model: keras.Model, total_steps: int) -> None:
        """Called once, before a checkpoint is restored and before the first step; makes the state."""
        self.trained = model
        self.total_steps = total_steps

    def state(self) -> list[Any]:
        """The variables that the rest of the training depends on, always in the same order."""
        return []

    def settle(self, model: keras.Model) -> None:
        """Called on the copy with averaged weights, before it is validated or saved."""
