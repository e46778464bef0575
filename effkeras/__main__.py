"""Runs `python -m effkeras` as the `effkeras` command."""

from effkeras.cli import main

raise SystemExit(main())
