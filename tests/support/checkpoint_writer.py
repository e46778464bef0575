"""Writes TensorFlow name-based checkpoints, the format of the published weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf


def write_checkpoint(folder: Path, variables: dict[str, np.ndarray]) -> Path:
    """Writes `folder/model.*` and the `checkpoint` file that names it; returns the prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "model"
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(variables[name]) for name in names],
    )
    (folder / "checkpoint").write_text('model_checkpoint_path: "model"\n')
    return prefix
