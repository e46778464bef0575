"""DropPath and DropBlock: regularisation that grows during training and is off at inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class _Holder:
    """Hides a variable from Keras, so that the progress is not saved as a weight."""

    variable: keras.Variable


class Scheduled(keras.layers.Layer):
    """A layer that depends on the progress of training: `progress` from 0 to 1.

    Without `FollowTraining` the progress is 1, the full strength. Subclasses call `super().build`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._progress = _Holder()

    def build(self, input_shape: Any) -> None:
        """Creates the variable that `set_progress` sets and the training graph reads."""
        self._progress.variable = keras.Variable(1.0, trainable=False, autocast=False, name="progress")

    @property
    def progress(self) -> Any:
        """The progress as a scalar tensor."""
        return self._progress.variable.value

    def set_progress(self, share: float) -> None:
        """Sets the progress to a share of the training, clipped to 0..1."""
        self._progress.variable.assign(min(1.0, max(0.0, share)))


@keras.saving.register_keras_serializable(package="effkeras")
class DropPath(Scheduled):
    """Drops whole samples of a branch, scheduled (NASNet paper, appendix A.3; slim's "v3").

    At progress p a sample survives with probability `1 - p * (1 - keep)`; survivors are divided by it.

    Args:
        keep: the survival probability at the end of training.
        seed: makes the random choices repeatable.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(self, keep: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 < keep <= 1:
            raise ValueError(f"{self.name}: keep must lie above 0 and up to 1, not {keep}")
        self.keep = keep
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        """(B, ...) to the same shape."""
        if not training or self.keep == 1:
            return x
        survival = 1.0 - self.progress * (1.0 - self.keep)
        shape = (keras.ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        draw = keras.random.uniform(shape, dtype="float32", seed=self._generator)
        factor = keras.ops.cast(draw < survival, "float32") / survival
        return x * keras.ops.cast(factor, x.dtype)

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Survival and seed."""
        return {**super().get_config(), "keep": self.keep, "seed": self.seed}


def set_progress(model: keras.Model, share: float) -> None:
    """Sets the progress of every scheduled layer of a model."""
    for layer in model.layers:
        if isinstance(layer, Scheduled):
            layer.set_progress(share)


class FollowTraining(keras.callbacks.Callback):
    """Updates the progress of scheduled layers while `fit` runs: `callbacks=[FollowTraining(total_steps)]`.

    Args:
        total_steps: steps of the whole training.
        first_step: the number of the first step in this `fit`.
    """

    def __init__(self, total_steps: int, first_step: int = 0):
        super().__init__()
        self._total = total_steps
        self._step = first_step

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the progress before each step."""
        set_progress(self.model, self._step / self._total)
        self._step += 1


@keras.saving.register_keras_serializable(package="effkeras")
class DropBlock(Scheduled):
    """Zeroes `size` x `size` squares in each channel of each sample, and scales up the other values.

    At progress p about `1 - p * (1 - keep)` of the values stay. Squares lie wholly inside the map; each
    possible centre is drawn with the probability

        gamma = drop * (H * W) / (h * w) / ((H - h + 1) * (W - w + 1))

    where drop = p * (1 - keep) and squares are h x w = min(size, H) x min(size, W) in a map of H x W. This
    is the authors' code (tensorflow/tpu resnet), which supports square maps only, applied per axis. The
    remaining values are divided by their share of the whole batch.

    Args:
        keep: the share of values kept at the end of training.
        size: side of the squares in cells of the map.
        seed: makes the random choices repeatable.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.
    """

    def __init__(self, keep: float, size: int = 7, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 < keep <= 1:
            raise ValueError(f"{self.name}: keep must lie above 0 and up to 1, not {keep}")
        if size < 1:
            raise ValueError(f"{self.name}: size must be at least 1, not {size}")
        self.keep = keep
        self.size = size
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        """(B, H, W, C) to the same shape."""
        if not training or self.keep == 1:
            return x
        noise = keras.random.uniform(ops.shape(x), dtype="float32", seed=self._generator)
        mask = self._mask(noise, x.shape[1], x.shape[2])
        # Where no value is left, the map is zero (the reference divides zero by zero).
        share = ops.maximum(ops.mean(mask), 1e-6)
        return x * ops.cast(mask / share, x.dtype)

    def _mask(self, noise: Any, height: int, width: int) -> Any:
        """1 where values stay, 0 in the squares whose centres have noise (in [0, 1)) below gamma."""
        square = min(self.size, height), min(self.size, width)
        places = (height - square[0] + 1) * (width - square[1] + 1)
        gamma = self.progress * (1.0 - self.keep) * height * width / (square[0] * square[1]) / places
        fits = _fits(height, square[0])[:, None, None] * _fits(width, square[1])[None, :, None]
        centres = ops.cast(noise < gamma, "float32") * fits
        return 1.0 - ops.max_pool(centres, square, strides=1, padding="same", data_format="channels_last")

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Share, side and seed."""
        return {**super().get_config(), "keep": self.keep, "size": self.size, "seed": self.seed}


def _fits(length: int, side: int) -> np.ndarray:
    """1 at the centres of windows of `side` that lie inside `length`, else 0."""
    places = np.arange(length)
    return ((places >= side // 2) & (places < length - (side - 1) // 2)).astype(np.float32)
