"""Spaces as data: what a TOML file lets a search choose.

- `reading`: finds and reads a space by name or path; `kinds` are one module each: `blocks`, `cells`,
  `detector`, `scaling`.
- `choices`: a scalar of the file is fixed, a list is a gene.
- `file`: a space's file, and the definition that its candidates start from.
- `stages` and `cell_genes`: which genomes are the same network.
- `covering`: few networks that together have every block of a space.

The spaces that come with effkeras are the TOML files here.
"""
