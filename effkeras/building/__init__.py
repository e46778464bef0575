"""From a definition to a Keras model, and from a custom Keras model to a definition."""
