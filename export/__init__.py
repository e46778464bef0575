"""Exports .tflite files and SavedModels, and measures their accuracy, size and latency.

Each command is a module: `python -m export.tflite` makes a file and checks it, `python -m export.bench` times
files. Importing the package loads neither TensorFlow nor Keras.
"""
