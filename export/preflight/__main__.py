"""`python -m export.preflight`."""

import sys

from export.preflight.command import main

sys.exit(main())
