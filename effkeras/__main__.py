"""`python -m effkeras` is the `effkeras` command."""

from effkeras.cli import main

raise SystemExit(main())
