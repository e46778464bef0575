"""Artifacts for a consumer: .tflite files, and what they cost in accuracy, bytes and time.

Each command is a module: `python -m export.tflite` makes a file and checks it, `python -m export.bench` times
files. Importing the package loads neither TensorFlow nor Keras.
"""
