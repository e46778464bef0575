"""The delegates of this machine; each module registers its own and imports a runtime only to open a file."""
