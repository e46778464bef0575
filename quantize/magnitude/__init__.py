"""Magnitude pruning and weight clustering."""
