"""Changes to a model's graph that quantization starts from."""
