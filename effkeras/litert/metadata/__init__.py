"""TFLite Metadata as records: read from its published schema, and written by it."""
