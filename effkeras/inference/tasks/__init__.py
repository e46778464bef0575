"""What models predict: one module per task."""
