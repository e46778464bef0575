"""Downloads files over HTTP, with resume and checks, and unpacks archives safely."""

from __future__ import annotations

import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from effkeras.support import console
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder

_ATTEMPTS = 5
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 16
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes downloaded so far, and the version tag of the file they belong to."""

    path: Path

    @property
    def tag(self) -> Path:
        return self.path.with_name(self.path.name + ".etag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() and self.tag.is_file() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


def download(url: str, to: Path, check: Callable[[Path], None] = lambda path: None) -> None:
    """Downloads `url` to the file `to`, with a progress bar.

    An earlier partial download (`to` + `.part`) is resumed if the server still has the same file.

    Args:
        url: an http or https address.
        to: the target file; it appears only when complete and accepted by `check`.
        check: raises EffkerasError if the complete file is wrong; the file is then deleted.

    Raises:
        EffkerasError: no network, no such file, or a connection that fails repeatedly.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise EffkerasError(f"cannot download {url}: not an http or https address")
    make_folder(to.parent)
    part = _Part(to.with_name(to.name + ".part"))
    with _explained(url, to):
        _fetch_all(url, part)
    try:
        check(part.path)
    except EffkerasError:
        part.discard()
        raise
    part.path.replace(to)
    part.discard()


def _fetch_all(url: str, part: _Part) -> None:
    for attempt in range(_ATTEMPTS):
        before = part.size()
        try:
            _fetch_rest(url, part)
            return
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            # Retry after an attempt that received data, and once after a first attempt that did not.
            if attempt + 1 == _ATTEMPTS or (attempt and part.size() == before):
                raise


def _fetch_rest(url: str, part: _Part) -> None:
    start = part.size()
    request = urllib.request.Request(url, headers=_resuming(part, start))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            resumed = response.status == http.client.PARTIAL_CONTENT
            _receive(response, part, start if resumed else 0)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        part.discard()  # the server now has another, shorter file
        _fetch_rest(url, part)


def _resuming(part: _Part, start: int) -> dict[str, str]:
    tag = part.tag.read_text() if start else ""
    if not tag:
        return {}
    return {"Range": f"bytes={start}-", "If-Range": tag}


def _receive(response: http.client.HTTPResponse, part: _Part, start: int) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    part.tag.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
    with part.path.open("ab" if start else "wb") as file:
        for _ in _shown(_copied(response, file), part.path.name.removesuffix(".part"), start, total):
            pass
    if total is not None and part.path.stat().st_size != total:
        raise http.client.IncompleteRead(b"", total - part.path.stat().st_size)


def _copied(response: http.client.HTTPResponse, file: IO[bytes]) -> Iterator[int]:
    while block := response.read(_CHUNK):
        file.write(block)
        yield len(block)


def _shown(sizes: Iterator[int], name: str, start: int, total: int | None) -> Iterator[int]:
    with console.progress() as bar:
        size = -(-total // _MIB) if total is not None else None
        task = bar.add_task(f"{name} (MiB)", total=size)
        done = start
        for count in sizes:
            done += count
            bar.update(task, completed=-(-done // _MIB))
            yield count


@contextmanager
def _explained(url: str, to: Path) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise EffkerasError(f"cannot download {url}: the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise EffkerasError(_offline(url, to, error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        reason = str(error) or type(error).__name__
        raise EffkerasError(
            f"the download of {url} broke off ({reason}); run the same command again to resume"
        ) from error


def _offline(url: str, to: Path, reason: object) -> str:
    return f"cannot reach {url} ({reason}); fetch it elsewhere and put it at {to}"


_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_LIMIT = 32 * 2**30  # bytes; ten times the largest published checkpoint


def is_archive(path: Path) -> bool:
    """Whether the file name is that of a tar archive."""
    return path.name.endswith(_ARCHIVES)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar archive into a new folder, which appears only when complete.

    Raises EffkerasError for a damaged archive, or one with links, devices, or paths outside the folder.
    """
    make_folder(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check(members, archive)
            tar.extractall(aside, members, filter="data")
        aside.rename(folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise EffkerasError(f"cannot unpack {archive}: {error}; delete it and fetch it again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check(members: list[tarfile.TarInfo], archive: Path) -> None:
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise EffkerasError(f"{archive} is not safe to unpack: {member.name!r} leads out of its folder")
        if not (member.isfile() or member.isdir()):
            raise EffkerasError(f"{archive} is not safe to unpack: {member.name!r} is a link or a device")
    if sum(member.size for member in members) > _LIMIT:
        raise EffkerasError(f"{archive} is not safe to unpack: it holds more than {_LIMIT} bytes")
