"""What a compression step does while a model trains."""

from __future__ import annotations

from abc import abstractmethod

import keras


class Hook(keras.callbacks.Callback):
    """A callback whose work survives an interruption and reaches the averaged weights.

    It finds layers by name, in the model that is trained and in copies of it.
    """

    @abstractmethod
    def state(self) -> list[keras.Variable]:
        """What a checkpoint has to hold, so that training resumes the same to the bit."""

    @abstractmethod
    def settle(self, model: keras.Model) -> None:
        """Does to a copy of the trained model, such as its moving average, what is done to the model."""
