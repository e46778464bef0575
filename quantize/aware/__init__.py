"""Quantization-aware training: models that compute as int8 will."""
