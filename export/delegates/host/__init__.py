"""The delegates of this machine: a module registers each, and imports its runtime when it opens a file."""
