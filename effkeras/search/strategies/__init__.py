"""Strategies of a search: each proposes genomes and learns from their results."""
