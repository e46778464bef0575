"""`python -m export.savedmodel MODEL`: a TensorFlow SavedModel that takes images of any size.

Preprocessing, network and postprocessing are one graph of TensorFlow operations, which runs wherever
TensorFlow does (also TensorFlow Serving), without effkeras. Importing the package loads no TensorFlow.
"""
