"""From a definition to a Keras model, and from a Keras model of one's own to a definition."""
