"""Kinds of networks: one module per kind, with its record and everything specific to it."""
