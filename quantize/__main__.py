"""`python -m quantize`: see `quantize.command`."""

import sys

from quantize.command import main

sys.exit(main())
