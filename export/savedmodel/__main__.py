"""`python -m export.savedmodel`."""

import sys

from export.savedmodel.command import main

if __name__ == "__main__":
    sys.exit(main())
