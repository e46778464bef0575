"""Rewrites of a model's graph before quantization."""
