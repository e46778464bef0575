"""Builds Keras models from definitions, and adds definitions to custom Keras models."""
