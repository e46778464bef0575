"""tensorflow-model-optimization itself, in a process of its own."""
