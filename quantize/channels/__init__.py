"""Whole channels removed: a narrower network."""
