"""Clustered kernels by tensorflow-model-optimization; run as a program of its own.

Importing it changes the Keras of the whole process. Writes an .npz file.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # not where only its figures are wanted
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np

STARTS = {"linear": "LINEAR", "density": "DENSITY_BASED", "kmeans++": "KMEANS_PLUS_PLUS"}
COUNTS = (4, 16)


def kernels() -> dict[str, np.ndarray]:
    random = np.random.default_rng(2)
    normal = random.normal(size=(40, 30)).astype(np.float32)
    return {
        "normal": normal,
        "heavy": normal**3,
        "shifted": normal + 2,
        "pruned": np.where(np.abs(normal) > 0.7, normal, 0),
    }


def clustered(keras, wrapper, kernel: np.ndarray, count: int, start: str) -> np.ndarray:
    """A dense kernel as the wrapper clusters it before any training."""
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    wrapped = wrapper(
        layer,
        number_of_clusters=count,
        cluster_centroids_init=start,
        preserve_sparsity=bool((kernel == 0).any()),
    )
    wrapped.build((None, kernel.shape[0]))
    wrapped.update_clustered_weights_associations()
    return np.array(wrapped.layer.kernel)


def main(target: str) -> None:
    import tf_keras as keras
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_config import (
        CentroidInitialization,
    )
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper import ClusterWeights

    np.savez_compressed(
        target,
        **{
            f"{name}.{count}.{start}": clustered(
                keras, ClusterWeights, kernel, count, CentroidInitialization[theirs]
            )
            for name, kernel in kernels().items()
            for count in COUNTS
            for start, theirs in STARTS.items()
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
