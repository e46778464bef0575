"""The optional backend tensorflow-model-optimization, in a separate process."""
