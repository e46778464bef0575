"""The loss of a mask, a plain Keras loss (EfficientDet reference code: `tf2/train_lib.py`)."""

from __future__ import annotations

import keras

from effkeras.data.masks import IGNORED


def mask_loss() -> keras.losses.Loss:
    """Cross-entropy of (B, h, w) classes and (B, h, w, C) logits, the mean over all pixels but the ignored.

    The reference code adds it to the losses of the boxes as it is, and so do we.
    """
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=IGNORED, name="mask", dtype="float32"
    )
