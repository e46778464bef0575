"""Formats of exported artifacts: one module per file format opens and runs it."""
