"""Weights from files: Keras's own, published TensorFlow and Keras checkpoints, timm's and effdet's."""

from effkeras.weights.loading import LoadReport, Opened, load_weights, open_weights

__all__ = ["LoadReport", "Opened", "load_weights", "open_weights"]
