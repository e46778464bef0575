"""Quantization-aware training: models that compute as their int8 artifact will."""
