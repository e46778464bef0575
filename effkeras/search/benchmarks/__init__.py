"""What strategies, cheap figures and workers are worth, measured; `make bench-search` runs them."""
