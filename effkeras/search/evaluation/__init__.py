"""How good a candidate is, and what it costs."""
