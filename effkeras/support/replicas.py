"""Sums over the replicas of a training: over what all its devices compute in a step.

A replica is the copy of a model on one device, which sees its part of the batch (`tf.distribute`). What a
loss or a layer takes from "the whole batch" is a sum over all replicas.
"""

from __future__ import annotations

from typing import Any

from effkeras.support.backend import TENSORFLOW, backend


def replicas() -> int:
    """The number of replicas of the step that is traced; 1 outside of one."""
    context = _context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def sum_over_replicas(values: Any) -> Any:
    """The sum of a tensor, or of each tensor of a list, over all replicas; the same outside of a replica.

    Gradients flow through it.
    """
    context = _context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    import tensorflow as tf

    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def replica_number() -> Any:
    """The number of this replica among all of them, from 0: an int or an int32 tensor."""
    context = _context()
    return 0 if context is None else context.replica_id_in_sync_group


def _context() -> Any:
    """TensorFlow's context of this replica; None outside of a replica, and on other backends."""
    if backend() != TENSORFLOW:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()
