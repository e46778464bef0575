"""Strategies of a search: each proposes genomes and learns from what became of them."""
