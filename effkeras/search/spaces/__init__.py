"""Search spaces as TOML files.

- `reading`: the interface of a space of models; finds and reads a space by name or path.
- `choices`: a scalar in the file is fixed, a list is a gene. `toml_space`: the base class of all spaces.
- `blocks`, `cells`, `detector`, `scaling`: one kind each. `stages` and `cell_genes` determine which genomes
  are the same network; `covering` finds few networks that together have every block of a space.

The TOML files in this folder are the search spaces that come with effkeras.
"""
