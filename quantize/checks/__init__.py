"""Checks of a finished .tflite: it runs, computes what its model computes, and keeps the accuracy."""
