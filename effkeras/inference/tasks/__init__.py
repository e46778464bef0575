"""Tasks: one module per kind of prediction."""
