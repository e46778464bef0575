"""Downloads files over HTTPS, with resume and checks, and unpacks archives safely."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gzip
import hashlib
import http.client
import ipaddress
import os
import re
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from effkeras.support import console
from effkeras.support.errors import EffkerasError, first_line, printable
from effkeras.support.files import make_folder, whole_folder, write_text

_ATTEMPTS = 5
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 16
_MIB = 1 << 20
_LIMIT = 32 * 2**30  # bytes; ten times the largest published checkpoint
_SCHEMES = ("https",)
_MOST_HOPS = 10
# What If-Range accepts: a strong tag, or a date.
_TAG = re.compile(r'"[\x21\x23-\x7e]{0,200}"|[A-Z][a-z]{2}, [0-9A-Za-z :]{10,40}')
_GOOGLES_MD5 = re.compile(r"(?:^|[, ])md5=([A-Za-z0-9+/]{22}==)(?:$|[, ])")
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class _Part:
    """The bytes of a file downloaded so far, and the tag of the version that they belong to.

    The tag is in a file beside the bytes. The name of the bytes' file holds a digest of address and tag, so
    that bytes of one version are never continued with those of another, whenever the process is killed.
    """

    to: Path
    url: str

    @property
    def tag(self) -> Path:
        return self.to.with_name(f"{self.to.name}.etag")

    def known_tag(self) -> str:
        """The tag of an earlier download; "" without one, or with one that is damaged."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            tag = self.tag.read_text("ascii")
            return tag if _TAG.fullmatch(tag) else ""
        return ""

    def path(self, tag: str) -> Path:
        """The file of the bytes of a version."""
        digest = hashlib.sha256(f"{self.url}\n{tag}".encode()).hexdigest()[:12]
        return self.to.with_name(f"{self.to.name}.{digest}.part")

    def size(self) -> int:
        """The bytes that can be continued."""
        tag = self.known_tag()
        path = self.path(tag)
        return path.stat().st_size if tag and path.is_file() else 0

    def begin(self, tag: str) -> Path:
        """An empty file for the bytes of a version, in place of all others."""
        self.discard()
        if tag:
            write_text(self.tag, tag)
        return self.path(tag)

    def discard(self) -> None:
        """Removes all that was downloaded."""
        self.tag.unlink(missing_ok=True)
        for path in self.to.parent.glob(f"{_literal(self.to.name)}.*.part"):
            path.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def download(url: str, to: Path, check: Callable[[Path], None] = lambda path: None) -> None:
    """Downloads `url` to the file `to`, with a progress bar.

    An earlier partial download beside `to` is resumed if the server still has the same version.

    Args:
        url: an https address. Redirections are followed to other https addresses.
        to: the target file; it appears only when complete and accepted by `check`.
        check: raises EffkerasError if the complete file is wrong; the file is then deleted.

    Raises:
        EffkerasError: no network, no such file, a connection that fails repeatedly, an address that is not
            https or names this machine or its network, or another process that downloads the same file.
    """
    _check_address(url, "")
    make_folder(to.parent)
    part = _Part(to, url)
    with _alone(to), _explained(url, to):
        content = _fetch_all(url, part)
        try:
            check(content)
        except EffkerasError:
            part.discard()
            raise
        content.replace(to)
        part.discard()


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    """Keeps other processes from downloads to the same folder: the system drops the lock with the process."""
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise EffkerasError(f"another process is downloading to {to.parent}; wait for it") from error
    finally:
        os.close(folder)


def _check_address(url: str, before: str) -> None:
    """Raises EffkerasError for an address that must not be fetched; `before` is the one that led to it.

    A server may lead on to another one, but not to other protocols, nor to names and numbers of this machine
    and its own network, whose services trust those who can reach them.
    """
    led = f"{before} leads on to " if before else ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise EffkerasError(f"cannot download {led}{url!r}: {error}") from error
    if parts.scheme not in _SCHEMES:
        raise EffkerasError(
            f"cannot download {led}{url}: not an https address; fetch it by hand if you trust it"
        )
    if not host or parts.username is not None:
        raise EffkerasError(f"cannot download {led}{url}: it needs a host, and no user")
    if _is_local(host):
        raise EffkerasError(
            f"cannot download {led}{url}: it is on this machine or its network; copy it by hand"
        )


def _is_local(host: str) -> bool:
    name = host.rstrip(".")
    if name.endswith((".localhost", ".local", ".internal")) or not re.search(r"[.:]", name):
        return True
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        # A name. Addresses in other spellings, such as 2130706433 or 0x7f.1, are no names.
        return re.fullmatch(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?", host) is not None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to addresses that may be fetched."""

    max_redirections = _MOST_HOPS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            _check_address(newurl, req.full_url)
        except EffkerasError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https alone; `urlopen` would follow a server to ftp too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _fetch_all(url: str, part: _Part) -> Path:
    for attempt in range(_ATTEMPTS):
        before = part.size()
        try:
            return _fetch_rest(url, part)
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            # Retry after an attempt that received data, and once after a first attempt that did not.
            if attempt + 1 == _ATTEMPTS or (attempt and part.size() == before):
                raise
    raise AssertionError("unreachable")


def _fetch_rest(url: str, part: _Part) -> Path:
    start, tag = part.size(), part.known_tag()
    headers = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
    request = urllib.request.Request(url, headers={**headers, "Accept-Encoding": "identity"})
    try:
        with _opener().open(request, timeout=_TIMEOUT) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                total = _total_of(response, start)
                if _tag_of(response) in ("", tag):
                    return _receive(response, part, start, total)
            elif response.status == http.client.OK:
                return _receive(response, part, 0, _length_of(response))
            else:
                raise EffkerasError(f"cannot download {url}: the server says {response.status}")
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
    part.discard()  # the server now has another file
    return _fetch_rest(url, part)


def _length_of(response: http.client.HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise EffkerasError(f"the server states the length {printable(text, 40)!r}; it is no number of bytes")
    return int(text)


def _total_of(response: http.client.HTTPResponse, start: int) -> int:
    """The bytes of the whole file. Raises EffkerasError for a part that was not asked for."""
    text = response.headers.get("Content-Range") or ""
    found = _RANGE.fullmatch(text)
    first, last, total = map(int, found.groups()) if found else (-1, -1, -1)
    length = _length_of(response)
    if first != start or last != total - 1 or length not in (None, total - start):
        raise EffkerasError(
            f"the server sends the part {printable(text, 40)!r}, not that from {start} on; delete "
            "what is there and try again"
        )
    return total


def _tag_of(response: http.client.HTTPResponse) -> str:
    """The version's tag or date; "" for one that cannot be resumed by."""
    text = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return text if _TAG.fullmatch(text) else ""


def _receive(response: http.client.HTTPResponse, part: _Part, start: int, total: int | None) -> Path:
    if total is not None and total > _LIMIT:
        raise EffkerasError(f"the file has {total:,} bytes, more than {_LIMIT:,}")
    path = part.path(part.known_tag()) if start else part.begin(_tag_of(response))
    with path.open("ab" if start else "wb") as file:
        for _ in _shown(_copied(response, file, start), part.to.name, start, total):
            pass
    size = path.stat().st_size
    if total is not None and size < total:
        raise http.client.IncompleteRead(b"", total - size)
    if total is not None and size > total:
        part.discard()
        raise EffkerasError(f"the server sent {size:,} bytes of {total:,}; try again")
    stated = _stated_md5(response)
    if stated and _md5(path) != stated:
        part.discard()
        raise EffkerasError(f"the file is damaged: the server states its md5 as {stated}; try again")
    return path


def _stated_md5(response: http.client.HTTPResponse) -> str:
    """The digest that Google's storage sends along, in hexadecimal; "" without one."""
    hashes = ",".join(response.headers.get_all("x-goog-hash") or ())
    found = _GOOGLES_MD5.search(hashes)
    return base64.b64decode(found[1]).hex() if found else ""


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _copied(response: http.client.HTTPResponse, file: IO[bytes], start: int) -> Iterator[int]:
    size = start
    while block := response.read(_CHUNK):
        size += len(block)
        if size > _LIMIT:
            raise EffkerasError(f"the file has more than {_LIMIT:,} bytes")
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
    except EffkerasError as error:
        raise error if url in str(error) else EffkerasError(f"cannot download {url}: {error}") from error
    except urllib.error.HTTPError as error:
        error.close()
        reason = printable(str(error.reason), 100)
        raise EffkerasError(f"cannot download {url}: the server says {error.code} {reason}") from error
    except urllib.error.URLError as error:
        raise EffkerasError(_offline(url, to, error.reason)) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        reason = first_line(error) or type(error).__name__
        raise EffkerasError(
            f"the download of {url} broke off ({reason}); run the same command again to resume"
        ) from error


def _offline(url: str, to: Path, reason: object) -> str:
    return f"cannot reach {url} ({reason}); fetch it elsewhere and put it at {to}"


_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_MOST_MEMBERS = 10_000
_EXPANSION, _FLOOR = 100, 2**28  # times its size, or bytes: float weights hardly compress
_LARGEST_HEADER = 2**20  # bytes; tarfile takes the headers of names into memory, as long as they say


def is_archive(path: Path) -> bool:
    """Whether the file name is that of a tar archive."""
    return path.name.endswith(_ARCHIVES)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar archive, plain or gzipped, into a new folder, which appears only when complete.

    Raises EffkerasError for a damaged archive, or one with links, devices, or paths outside the folder, with
    more than 10,000 members, or that expands to more than a hundred times its size.
    """
    with whole_folder(folder) as aside:
        try:
            with _opened(archive) as tar:
                tar.extractall(aside, _members(tar, archive), filter="data")
        except EffkerasError:
            raise
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
            raise EffkerasError(
                f"cannot unpack {archive}: {first_line(error)}; delete it and fetch it again"
            ) from error


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as plain:
        is_zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file = _Bounded(gzip.GzipFile(fileobj=plain) if is_zipped else plain, archive)
        with tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload]
            yield tar


class _Bounded:
    """The bytes of an archive as tarfile reads them. Raises EffkerasError beyond the limits."""

    def __init__(self, file: Any, archive: Path) -> None:
        self._file, self._archive = file, archive
        self._most = max(_FLOOR, _EXPANSION * archive.stat().st_size)
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise EffkerasError(f"{self._archive} is not safe to unpack: it has a name of {size:,} bytes")
        self._check(self._file.tell() + size)
        return self._file.read(size)  # type: ignore[no-any-return]

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset)
        return self._file.seek(offset, whence)  # type: ignore[no-any-return]

    def _check(self, position: int) -> None:
        if position > self._most:
            raise EffkerasError(
                f"{self._archive} is not safe to unpack: it expands to over {self._most:,} bytes"
            )


def _members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    """The members of an archive. Raises EffkerasError for one that must not be unpacked."""
    members = []
    for member in tar:
        members.append(member)
        path = PurePosixPath(member.name)
        name = printable(member.name, 200)
        if path.is_absolute() or ".." in path.parts:
            raise EffkerasError(f"{archive} is not safe to unpack: {name!r} leads out of its folder")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise EffkerasError(f"{archive} is not safe to unpack: {name!r} is a link or a device")
        if len(members) > _MOST_MEMBERS:
            raise EffkerasError(
                f"{archive} is not safe to unpack: it has more than {_MOST_MEMBERS:,} members"
            )
        if member.size > _LIMIT:
            raise EffkerasError(f"{archive} is not safe to unpack: {name!r} has more than {_LIMIT:,} bytes")
    return members
