"""`make release`: builds wheel and sdist of the last commit twice, compares them, and keeps them in dist/.

The two builds differ in folder, in the times of files and in their permissions. The time in the archives is
that of the commit, so that anyone who builds the same commit gets the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def built(folder: Path, umask: int) -> dict[str, bytes]:
    """The files that a build of the last commit makes, in a folder of its own."""
    folder.mkdir()
    tree = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "--extract", "--touch"], cwd=folder, input=tree, umask=umask, check=True)
    time = ["git", "log", "-1", "--format=%ct"]
    epoch = subprocess.run(time, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    command = [sys.executable, "-m", "hatchling", "build", "-d", "dist"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    subprocess.run(command, cwd=folder, env=environment, umask=umask, stdout=subprocess.DEVNULL, check=True)
    return {file.name: file.read_bytes() for file in sorted((folder / "dist").iterdir())}


def main(out: Path = ROOT / "dist") -> int:
    """Builds twice; 1 when the bytes differ."""
    with tempfile.TemporaryDirectory() as name:
        first, second = built(Path(name, "one"), 0o022), built(Path(name, "another"), 0o077)
    differ = sorted(file for file in first.keys() | second.keys() if first.get(file) != second.get(file))
    if differ:
        print(f"error: two builds of one commit differ in {', '.join(differ)}", file=sys.stderr)
        return 1
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    sums = [f"{hashlib.sha256(content).hexdigest()}  {file}" for file, content in first.items()]
    for file, content in first.items():
        (out / file).write_bytes(content)
    (out / "SHA256SUMS").write_text("".join(f"{line}\n" for line in sums), encoding="utf-8")
    print("\n".join(sums))
    return 0


if __name__ == "__main__":
    sys.exit(main())
