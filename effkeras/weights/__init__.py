"""Loads weights from files: Keras, published TensorFlow and Keras checkpoints, timm and effdet."""
