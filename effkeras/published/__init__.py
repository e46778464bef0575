"""Published weights by name: where their files are, and how to get them. Nothing here loads TensorFlow."""
