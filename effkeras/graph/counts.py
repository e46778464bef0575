"""The counts of a network: parameters, MACs and operations.

Papers commonly use two conventions:

- MACs: multiply-adds of convolutions and dense layers; nothing else counts.
- Operations, as TensorFlow's profiler counts them (the figures of the EfficientDet and EfficientNetV2
  authors are half of these): two per MAC, one per bias, sum, product, mean and pooling input, two per
  swish, three per hard swish, and 3k - 1 for a fast fusion of k maps. Batch normalisation is folded in an
  artifact and counts nothing; neither do ReLU, sigmoid and softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

# Operations per value; Keras also calls swish silu.
ACTIVATION_OPERATIONS = {"swish": 2, "silu": 2, "hard_swish": 3, "hard_silu": 3}


@dataclass(frozen=True, slots=True)
class Counts:
    """Weights of a definition, and its multiply-adds and operations for one image."""

    trainable: int
    total: int
    macs: int
    operations: int
