"""`python -m export.metadata`."""

import sys

from export.metadata.command import main

sys.exit(main())
