"""`python -m faults [PART ...]`: runs parts of the campaign, and prints the table over all of them."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import sys
from pathlib import Path

from effkeras.support.errors import printable_lines
from effkeras.support.files import write_text
from faults import parts
from faults.campaign import ROOT, Out, faults_in, table

PAGE = ROOT / "docs" / "trust.md"
_TABLE = re.compile(r"(?<=<!-- faults -->\n).*?(?=<!-- end -->)", re.DOTALL)


def names() -> list[str]:
    """The names of all parts."""
    return sorted(module.name for module in pkgutil.iter_modules(parts.__path__))


def main(argv: list[str] | None = None) -> int:
    """Runs the chosen parts, or all; 1 when a case ended in a fault."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("part", nargs="*", choices=[*names(), []], help="default: all")
    options.add_argument("--count", type=int, default=0, help="cases of each part; default: all")
    options.add_argument("--minutes", type=float, default=60, help="time for each part; default: 60")
    options.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="cases at once; default: as many as cores"
    )
    options.add_argument("--out", type=Path, default=ROOT / "runs" / "faults", help="folder of the rows")
    options.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    chosen = options.parse_args(argv)
    clean = True
    for name in chosen.part or names():
        out = Out(name, chosen.out, chosen.count, chosen.minutes, chosen.jobs)
        importlib.import_module(f"faults.parts.{name}").run(out)
        out.end()
        clean &= out.is_clean
        for line in faults_in(out.file):
            print(printable_lines(line))
    made = table(chosen.out.glob("*.jsonl"), names())
    print(made, end="")
    if chosen.write:
        write_text(PAGE, _TABLE.sub(lambda _: made, PAGE.read_text("utf-8")))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
