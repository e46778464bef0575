"""Weights from files: Keras's own and the published TensorFlow checkpoints."""

from effkeras.checkpoints.loading import LoadReport, load_weights

__all__ = ["LoadReport", "load_weights"]
