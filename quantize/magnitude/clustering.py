"""Weight clustering: few distinct values per kernel, which compress well and fit a look-up table.

Han, Mao & Dally 2016, "Deep compression" (arXiv:1510.00149), section 3. Fine-tuning changes the values, but
every weight stays in its cluster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from effkeras.graph.rewrite import Graph, check_finite, rewrite
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import to_record
from effkeras.training.callbacks import FitHook
from quantize.magnitude.kmeans import centroids_of, clusters_of, nearest, smallest_count
from quantize.magnitude.selection import KernelFilter, Selection, Target, select
from quantize.magnitude.sparsity import relative_change, sparsity_of, stored_sizes
from quantize.report import Compressed, LayerReport, StepReport
from quantize.specs import ClusterSpec

STEP = "cluster"
ERROR_IS = "norm of the change / norm of the weights"

Array = np.ndarray


def cluster(model: keras.Model, spec: ClusterSpec | None = None) -> Compressed:
    """Gives each kernel of a model at most `spec.clusters` distinct values, without training.

    Zeros stay zero and no other weight becomes zero: a pruned model keeps its pattern.

    Args:
        model: any functional Keras model with one input; it is not changed.
        spec: the number of values; the default is 16.

    Returns:
        A plain model with the same layers, nested models made flat, and a report with an entry per layer
        that has a kernel.

    Raises:
        EffkerasError: the `spec` cannot be met, weights are NaN or infinite, or there is no layer to cluster.
    """
    spec = spec or ClusterSpec()
    check_finite(model)
    graph = Graph.of(model)
    chosen = select_clusterable(graph, spec)
    clustered = rewrite(graph, {})
    for target in track(chosen.targets, "clustering"):
        target.variable(clustered).assign(_clustered(target.array(clustered), spec))
    return finish_clustering(graph.model, clustered, spec)


def finish_clustering(before: keras.Model, after: keras.Model, spec: ClusterSpec) -> Compressed:
    """The report of a clustered model, which may have been trained further with a `ClusterHook`.

    Args:
        before: the model before clustering.
        after: the clustered model with the same layer names; a plain model.
        spec: the spec of the clustering.
    """
    graph = Graph.of(before)
    before, chosen = graph.model, select_clusterable(graph, spec)
    counts = [len(np.unique(target.array(after))) for target in chosen.targets]
    done = [
        LayerReport(target.name, target.kind, "done", f"{count} values", _error(target, before, after))
        for target, count in zip(chosen.targets, counts, strict=True)
    ]
    figures = {
        "clusters": max(counts),
        "model_sparsity": sparsity_of(after).share,
        **stored_sizes(after),
        "gzipped_before": stored_sizes(before)["gzipped_bytes"],
    }
    return Compressed(after, StepReport(STEP, (*done, *chosen.skipped), ERROR_IS, figures))


def select_clusterable(graph: Graph, spec: ClusterSpec) -> Selection:
    """The kernels that a spec clusters; raises EffkerasError for an invalid spec."""
    to_record(ClusterSpec, dataclasses.asdict(spec), STEP)
    if spec.clusters < 2:
        raise EffkerasError(f"{STEP}: clusters must be at least 2, not {spec.clusters}")
    return select(
        graph, KernelFilter(spec.skip, spec.depthwise), lambda kernel: _unfit(kernel, spec.clusters)
    )


class ClusterHook(FitHook):
    """Keeps a clustered model clustered while it trains, in `tune` or `fit`.

    `model.fit(..., callbacks=[ClusterHook(spec)])`. After every step the weights of a cluster are set to
    their mean: each value moves by the mean of its weights' updates. Zeros stay zero.

    Args:
        spec: the spec of the clustering.

    Raises:
        EffkerasError: when training starts: there is no layer to cluster, or the model is not clustered.
    """

    def __init__(self, spec: ClusterSpec):
        super().__init__()
        self._spec = spec
        self._targets: tuple[Target, ...] = ()
        self._assignments: list[keras.Variable] = []
        self._apply: Callable[[], None]

    def attach(self, model: keras.Model, total_steps: int) -> None:
        """Finds the weights of each cluster."""
        import tensorflow as tf

        super().attach(model, total_steps)
        self._targets = select_clusterable(Graph.of(model), self._spec).targets
        self._assignments = [_assignment(target, model, self._spec) for target in self._targets]
        kernels = [target.variable(model) for target in self._targets]
        self._apply = tf.function(lambda: self._average(kernels), autograph=False)

    def state(self) -> list[keras.Variable]:
        """The cluster of each weight."""
        return list(self._assignments)

    def finalize(self, model: keras.Model) -> None:
        """Clusters another model with the same layer names in the same way."""
        self._average([target.variable(model) for target in self._targets])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the weights of each cluster to their mean."""
        self._apply()

    def _average(self, kernels: Sequence[keras.Variable]) -> None:
        average_clusters(kernels, self._assignments, self._spec.clusters + 1)


def average_clusters(
    kernels: Sequence[keras.Variable], assignments: Sequence[keras.Variable], count: int
) -> None:
    """Sets the weights of each cluster to their mean.

    Args:
        kernels: the clustered kernels.
        assignments: int32 in the kernels' shapes: each weight's cluster, below `count`; 0 for zeros.
        count: the number of clusters.
    """
    import tensorflow as tf

    for kernel, assignment in zip(kernels, assignments, strict=True):
        # In float32 the sum of a hundred thousand equal weights is wrong in the third digit.
        values = tf.reshape(tf.cast(kernel.value, tf.float64), [-1])
        means = tf.math.unsorted_segment_mean(values, tf.reshape(assignment.value, [-1]), count)
        means = tf.cast(tf.concat([tf.zeros([1], tf.float64), means[1:]], 0), kernel.dtype)
        kernel.assign(tf.gather(means, assignment.value))


def _clustered(kernel: Array, spec: ClusterSpec) -> Array:
    centroids = centroids_of(kernel, spec.clusters, spec.start)
    return centroids[nearest(kernel, centroids)]


def _assignment(target: Target, model: keras.Model, spec: ClusterSpec) -> keras.Variable:
    """The cluster of each weight of a kernel: from 1, and 0 for zeros."""
    found = clusters_of(target.array(model))
    if len(found.centroids) > spec.clusters:
        raise EffkerasError(
            f"the layer {target.name!r} has {len(found.centroids)} distinct weights, more than "
            f"{spec.clusters}; cluster the model before it is trained on"
        )
    places = np.where(found.centroids == 0, 0, 1 + np.arange(len(found.centroids))).astype(np.int32)
    return keras.Variable(places[found.assignment], dtype="int32", trainable=False, name="clusters")


def _unfit(kernel: Array, count: int) -> str:
    """Why a kernel cannot have as few as `count` values; empty if it can."""
    needed = smallest_count(kernel)
    return "" if count >= needed else f"its zeros and other weights need {needed} clusters"


def _error(target: Target, before: keras.Model, after: keras.Model) -> float:
    return relative_change(target.array(before), target.array(after))
