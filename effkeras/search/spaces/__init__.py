"""Search spaces as data: what a TOML file lets a search choose.

- `reading`: what every space of models offers; finds and reads one by name or path.
- `choices`: a scalar of the file is fixed, a list is a gene. `toml_space`: what all kinds of spaces share.
- `blocks`, `cells`, `detector`, `scaling`: one kind each. `stages` and `cell_genes` know which genomes are
  the same network; `covering` finds few networks that together have every block of a space.

The search spaces that come with effkeras are the TOML files here.
"""
