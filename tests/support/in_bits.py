"""What 8 bits make of values, by the definition."""

from __future__ import annotations

import numpy as np


def in_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values rounded to 256 steps of low..high, which must hold 0."""
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
