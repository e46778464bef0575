"""Weights that become zero, or few different values, by their size."""
