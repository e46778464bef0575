"""Decodes every image of a data set once, and remembers what it found.

A file in the cache folder keeps the results by path, size and modification time, so an interrupted scan
continues, and a second one only looks at what has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from effkeras.data.duplicates import NO_LOOK, Look, look_of
from effkeras.data.images import Remark, decode_image
from effkeras.support.console import note_once, track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import cache_folder

_VERSION = "effkeras scan 1"


@dataclass(frozen=True, slots=True)
class Scan:
    """What decoding an image file gave: its height and width, a digest of its bytes, its look, and remarks.

    `problem` says why it cannot be decoded; the other fields are then empty.
    """

    size: tuple[int, int] = (0, 0)
    digest: str = ""
    look: Look = NO_LOOK
    remarks: tuple[Remark, ...] = ()
    problem: str = ""


Stamp = tuple[int, int]  # size in bytes, modification time in ns


def scan(root: Path, paths: Iterable[Path]) -> dict[Path, Scan]:
    """Decodes the image files, in threads and with a progress bar, unless their results are in the cache.

    Args:
        root: the data set, which has a cache file of its own.
        paths: its image files.
    """
    unique = list(dict.fromkeys(paths))
    stamps = {path: _stamp(path) for path in unique}
    file = cache_folder() / "scans" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]}.jsonl"
    known = _read(file)
    found = {
        path: known[str(path.absolute())][1]
        for path in unique
        if known.get(str(path.absolute()), (None, None))[0] == stamps[path]
    }
    missing = [path for path in unique if path not in found]
    if missing:
        with _appending(file) as add:
            for path, one in _decoded(missing):
                found[path] = one
                add(_line(path, stamps[path], one))
    return {path: found[path] for path in unique}


def _decoded(paths: list[Path]) -> Iterator[tuple[Path, Scan]]:
    pool = ThreadPoolExecutor()
    try:
        yield from track(zip(paths, pool.map(_scan, paths), strict=True), "decoding images", len(paths))
    finally:
        pool.shutdown(cancel_futures=True)  # after an interruption, only what has begun is finished


def _scan(path: Path) -> Scan:
    try:
        decoded = decode_image(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except (EffkerasError, OSError) as error:
        return Scan(problem=str(error).removeprefix(f"{path}: "))
    size = (decoded.pixels.shape[0], decoded.pixels.shape[1])
    return Scan(size, digest, look_of(decoded.pixels), decoded.remarks)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def _line(path: Path, stamp: Stamp, one: Scan) -> str:
    look = [f"{one.look.coarse:x}", f"{one.look.fine:x}"]
    remarks = [remark.name for remark in one.remarks]
    fields = [_VERSION, str(path.absolute()), *stamp, *one.size, one.digest, *look, remarks, one.problem]
    return json.dumps(fields)


def _read(file: Path) -> dict[str, tuple[Stamp, Scan]]:
    """The results in a cache file by path. Lines that are damaged or of another version are left out."""
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            path, stamp, one = _parsed(json.loads(line))
            found[path] = (stamp, one)
    return found


def _parsed(fields: Any) -> tuple[str, Stamp, Scan]:
    version, path, length, changed, height, width, digest, coarse, fine, remarks, problem = fields
    if version != _VERSION:
        raise ValueError(version)
    look, names = Look(int(coarse, 16), int(fine, 16)), tuple(Remark[name] for name in remarks)
    return path, (length, changed), Scan((height, width), digest, look, names, problem)


@contextlib.contextmanager
def _appending(file: Path) -> Iterator[Any]:
    """A function that appends a line to the cache file; one that does nothing where it cannot be written."""
    stream: IO[str] | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("a", encoding="utf-8", errors="replace", buffering=1)
    except OSError as error:
        note_once(f"{file}: {error.strerror}; an interrupted scan will start again")

    def add(line: str) -> None:
        if stream:
            with contextlib.suppress(OSError):  # a full disk costs the cache, not the scan
                stream.write(f"{line}\n")

    try:
        yield add
    finally:
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
