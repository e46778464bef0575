"""`python -m export.savedmodel MODEL`: a TensorFlow SavedModel that takes images as they are.

Resizing, the network and what follows it are one graph of TensorFlow operations, which runs wherever
TensorFlow does (TensorFlow Serving too), without effkeras. Importing the package loads no TensorFlow.
"""

from export.savedmodel.command import main

__all__ = ["main"]
