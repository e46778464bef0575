"""Which layers need more than 8 bits."""
