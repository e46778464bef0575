"""Consumers: the programs that artifacts are exported for, one module each."""
