"""Labelled images: readers and writers of data set formats, and the training pipeline."""
