"""LiteRT: conversion of Keras models to .tflite, and reading, rewriting, running and timing the files.

The modules import TensorFlow or the interpreter only where they use them.
"""
