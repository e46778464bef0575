"""The kinds of networks: one module each, which holds the kind's record and all that is particular to it."""
