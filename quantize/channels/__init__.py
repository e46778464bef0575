"""Channel pruning: whole channels are removed."""
