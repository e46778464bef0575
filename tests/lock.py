"""`make lock` writes requirements.lock; `make lint` checks, without a network, that it is of pyproject.toml.

The lock has the version and the hashes of everything that CI installs, for Python 3.11 and later on all
systems, and no address of an index. Its first line has a digest of what it was resolved from.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
ENTRY = re.compile(r"^([a-z0-9][a-z0-9.-]*)==\S+(.*)", re.MULTILINE)
OLD = "requirements.lock is not of this pyproject.toml; run `make lock`, which asks the package index"


def first_line(project: str) -> str:
    """The first line of the lock of a pyproject.toml."""
    tables = tomllib.loads(project)
    parts = [
        tables["project"].get(key) for key in ("requires-python", "dependencies", "optional-dependencies")
    ]
    parts.append(tables.get("tool", {}).get("uv"))
    return f"# resolved from dependencies of sha256 {hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def problems(lock: str, project: str) -> list[str]:
    """What is wrong with a lock; empty if it belongs to the pyproject.toml."""
    found = [] if lock.startswith(first_line(project) + "\n") else [OLD]
    addresses = re.findall(r"^.*(?:://|--(?:extra-)?index-url|--find-links).*$", lock, re.MULTILINE)
    found += [f"requirements.lock has an address: {line.strip()}" for line in addresses]
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    bad = [
        entry.split("\n")[0] for entry in entries if not ENTRY.match(entry) or "--hash=sha256:" not in entry
    ]
    return found + [f"requirements.lock has no version and hash for {line}" for line in bad]


def write(project: str) -> None:
    """Resolves the newest versions anew. Raises subprocess.CalledProcessError where that is not possible."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        sys.exit("error: a lock is resolved by uv: pip install uv")
    resolve = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--all-extras"]
    form = ["--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header", "--upgrade"]
    command = [*resolve, *form, "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    aside = LOCK.with_suffix(".new")
    aside.write_text(
        f"{first_line(project)}\n# `make lock` writes this file.\n{done.stdout}", encoding="utf-8"
    )
    aside.replace(LOCK)


def main(words: list[str]) -> int:
    """Checks the lock, and writes it before with --write; 1 when it is wrong."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if "--write" in words:
        write(project)
    found = problems(LOCK.read_text(encoding="utf-8"), project)
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
