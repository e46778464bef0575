"""Weights from files: Keras's own, published TensorFlow and Keras checkpoints, timm's and effdet's."""
