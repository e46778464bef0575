"""What is counted of a network, and how.

Two conventions, both common in papers:

- MACs: one is one multiply-add of a convolution or dense layer, and nothing else counts.
- Operations, as TensorFlow's profiler counts them (the figures of the EfficientDet and EfficientNetV2
  authors are half of these): two for each MAC, one for each bias, sum, product, mean and pooling input,
  two for each swish, three for each hard swish, and for a fast fusion of k maps 3k - 1. Batch
  normalisation folds away in an artifact and counts nothing, as do ReLU, sigmoid and softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

# Operations for one value; Keras also calls swish silu.
ACTIVATION_OPERATIONS = {"swish": 2, "silu": 2, "hard_swish": 3, "hard_silu": 3}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a definition costs: weights, and multiply-adds for one image."""

    trainable: int
    total: int
    macs: int
    operations: int
