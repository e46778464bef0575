"""The learning rate over a training: linear warm-up, then half a cosine down to zero."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="effkeras")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `peak` over `warmup` steps, then falls to 0 at `total` steps."""

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak = peak
        self.warmup = warmup
        self.total = total

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / max(self.warmup, 1)
        progress = ops.clip((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)
        falling = 0.5 * (1 + ops.cos(math.pi * progress))
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """The constants."""
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}
