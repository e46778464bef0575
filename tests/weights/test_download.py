"""Downloads resume and appear whole or not at all; archives unpack below their folder, or not at all."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from effkeras.definitions.definition import WeightsSpec
from effkeras.support.errors import EffkerasError
from effkeras.support.replacing import remove_strays_once
from effkeras.weights import download as download_module
from effkeras.weights.cards import check
from effkeras.weights.download import _Part, download, unpack

CONTENT = np.random.default_rng(0).bytes(300_000)


@dataclass
class Site:
    """What the server has, how many bytes it sends before it breaks off, and what it was asked for."""

    content: bytes = CONTENT
    tag: str = '"one"'
    budgets: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    knows_ranges: bool = True
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # in place of those that the server would send
    leads_to: str = ""  # a redirection from /redirect


class Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args):
        self.site = site
        super().__init__(*args)

    def do_GET(self):
        site = self.site
        asked = self.headers.get("Range")
        site.ranges.append(asked)
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", site.leads_to)
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.knows_ranges else 0
        if self.headers.get("If-Range", site.tag) != site.tag:
            start = 0
        if start >= len(site.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(site.content) - start), "ETag": site.tag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
        for name, value in {**headers, **site.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        budget = site.budgets.pop(0) if site.budgets else len(site.content)
        self.wfile.write(site.content[start : start + budget])

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    """A server on this machine, which a download otherwise refuses, as it does http."""
    monkeypatch.setattr(download_module, "_SCHEMES", ("http", "https"))
    monkeypatch.setattr(download_module, "_is_local", lambda host: False)
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site))
    site.url = f"http://127.0.0.1:{server.server_port}/weights.h5"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_whole(site, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar, as on a terminal
    download(site.url, tmp_path / "new" / "w.h5")
    assert (tmp_path / "new" / "w.h5").read_bytes() == CONTENT
    assert files(tmp_path / "new") == ["w.h5"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "w.h5" in shown.err


def test_it_goes_on_where_it_broke_off(site, tmp_path):
    site.budgets = [100_000, 50_000]
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert site.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_command_goes_on_too(site, tmp_path):
    site.budgets = [90_000, 0, 0]
    with pytest.raises(EffkerasError, match=r"broke off .* run the same command again to resume"):
        download(site.url, tmp_path / "w.h5")
    assert [Path(name).suffix for name in files(tmp_path)] == [".part", ".etag"]
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert site.ranges[-1] == "bytes=90000-"


@pytest.mark.parametrize("shorter", [False, True])
def test_another_file_at_the_server_is_fetched_from_the_start(shorter, site, tmp_path):
    site.budgets = [90_000, 0, 0]
    with pytest.raises(EffkerasError):
        download(site.url, tmp_path / "w.h5")
    site.content, site.tag = (CONTENT[:50_000] if shorter else CONTENT[::-1]), '"two"'
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == site.content


def test_a_server_without_ranges_sends_all_again(site, tmp_path):
    site.knows_ranges, site.budgets = False, [100_000]
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT


def test_a_part_that_is_complete_already_is_fetched_anew(site, tmp_path):
    part = _Part(tmp_path / "w.h5", site.url)
    part.begin('"one"').write_bytes(CONTENT)
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert files(tmp_path) == ["w.h5"]


def test_bytes_of_one_version_are_never_continued_with_those_of_another(site, tmp_path):
    """A kill between the tag of a version and its first byte leaves the old bytes beside the new tag."""
    site.budgets = [90_000, 0, 0]
    with pytest.raises(EffkerasError):
        download(site.url, tmp_path / "w.h5")
    site.content, site.tag = CONTENT[::-1], '"two"'
    (tmp_path / "w.h5.etag").write_text(site.tag)
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == site.content


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 0-299999/300000"},
        {"Content-Range": "bytes 90000-299999/400000"},
        {"Content-Range": "bytes */300000"},
        {"Content-Range": ""},
        {"Content-Length": "7"},
    ],
)
def test_another_part_than_the_one_asked_for_is_refused(headers, site, tmp_path):
    site.budgets = [90_000, 0, 0]
    with pytest.raises(EffkerasError):
        download(site.url, tmp_path / "w.h5")
    site.headers = headers
    with pytest.raises(EffkerasError, match="the server sends the part"):
        download(site.url, tmp_path / "w.h5")
    assert not (tmp_path / "w.h5").exists()


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "9" * 30])
def test_a_length_that_is_none_is_one_line(length, site, tmp_path):
    site.headers = {"Content-Length": length}
    with pytest.raises(EffkerasError) as caught:
        download(site.url, tmp_path / "w.h5")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w.h5").exists()


@pytest.mark.parametrize("tag", ['W/"one"', '"a b"', "none", "", '"' + "a" * 300 + '"'])
def test_a_version_without_a_strong_tag_is_fetched_from_the_start(tag, site, tmp_path):
    site.budgets, site.tag = [90_000, 0, 0], tag
    with pytest.raises(EffkerasError):
        download(site.url, tmp_path / "w.h5")
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT
    assert set(site.ranges) == {None}
    assert files(tmp_path) == ["w.h5"]


@pytest.mark.parametrize("to", ["ftp://example.org/w.h5", "file:///etc/passwd", "gopher://x.org/"])
def test_a_server_leads_to_no_other_protocol(to, site, tmp_path):
    site.leads_to = to
    with pytest.raises(EffkerasError, match=r"leads on to|the server says 302"):
        download(site.url.replace("weights.h5", "redirect"), tmp_path / "w.h5")
    assert files(tmp_path) == []


def test_a_server_may_lead_to_another_one(site, tmp_path):
    site.leads_to = site.url
    download(site.url.replace("weights.h5", "redirect"), tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT


def test_every_hop_is_checked(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "_SCHEMES", ("http",))
    monkeypatch.setattr(download_module, "_is_local", lambda host: host == "10.0.0.1")
    site.leads_to = "http://10.0.0.1/w.h5"
    with pytest.raises(EffkerasError, match=r"leads on to http://10\.0\.0\.1/w\.h5: it is on this machine"):
        download(site.url.replace("weights.h5", "redirect"), tmp_path / "w.h5")
    site.leads_to = site.url.replace("http", "https", 1)
    with pytest.raises(EffkerasError, match=r"leads on to .*: not an https address"):
        download(site.url.replace("weights.h5", "redirect"), tmp_path / "w.h5")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:127.0.0.1]"),
        *("localhost", "a.localhost.", "printer.local", "wiki"),
        *("2130706433", "0x7f.1", "127.1", "0"),
    ],
)
def test_nothing_of_this_machine_or_its_network_is_fetched(host, tmp_path):
    with pytest.raises(EffkerasError, match="is on this machine or its network"):
        download(f"https://{host}/w.h5", tmp_path / "w.h5")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["https://user@example.org/w", "https:///w", "https://[::1/w", "https://a.org:x/w"]
)
def test_an_address_without_a_plain_host_is_refused(url, tmp_path):
    with pytest.raises(EffkerasError, match="cannot download"):
        download(url, tmp_path / "w.h5")


def test_the_digest_that_a_server_sends_along_is_compared(site, tmp_path):
    """Google's storage, which has most published weights, does."""
    right = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    site.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={right}"}
    download(site.url, tmp_path / "right.h5")
    site.content = CONTENT[::-1]
    with pytest.raises(EffkerasError, match="the file is damaged: the server states its md5"):
        download(site.url, tmp_path / "wrong.h5")
    assert files(tmp_path) == ["right.h5"]


def test_two_downloads_to_one_folder_do_not_mix(site, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(EffkerasError, match="another process is downloading"):
        download(site.url, tmp_path / "w.h5")
    os.close(folder)
    download(site.url, tmp_path / "w.h5")


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_digests(kind, site, tmp_path):
    right = WeightsSpec(url=site.url, **{kind: hashlib.new(kind, CONTENT).hexdigest().upper()})
    download(site.url, tmp_path / "right.h5", lambda part: check(part, right))
    wrong = WeightsSpec(url=site.url, **{kind: hashlib.new(kind, b"").hexdigest()})
    with pytest.raises(EffkerasError, match=f"is not what was published at {site.url}: its {kind}"):
        download(site.url, tmp_path / "wrong.h5", lambda part: check(part, wrong))
    assert files(tmp_path) == ["right.h5"]


def test_no_such_file(site, tmp_path):
    with pytest.raises(EffkerasError, match="the server says 404"):
        download(site.url.replace("weights.h5", "missing"), tmp_path / "w.h5")
    assert files(tmp_path) == []


def test_without_network_it_says_where_to_put_the_file(site, tmp_path):
    with pytest.raises(EffkerasError, match=r"cannot reach http://127\.0\.0\.1:9/w\.h5 .* put it at .*h5$"):
        download("http://127.0.0.1:9/w.h5", tmp_path / "w.h5")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.org/w", "http://a.org/w", "w.h5", ""])
def test_only_https_is_fetched(url, tmp_path):
    with pytest.raises(EffkerasError, match="not an https address"):
        download(url, tmp_path / "w.h5")


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"abc"))
    return path


def test_files_and_folders(tmp_path):
    path = archive(tmp_path / "a.tgz", ("d0", tarfile.DIRTYPE), ("d0/model.index", tarfile.REGTYPE))
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "d0" / "model.index").read_bytes() == b"abc"


# Kills itself when the content is there, and has not its name yet.
KILLED = """
import os, signal, sys
from pathlib import Path
from effkeras.weights import download
class Members(list):
    def __iter__(self):
        yield from list.__iter__(self)
        os.kill(os.getpid(), signal.SIGKILL)
members = download._members
download._members = lambda *given: Members(members(*given))
download.unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_what_a_killed_process_unpacked_is_removed_by_the_next(tmp_path):
    """It stayed for ever, and archives have gigabytes."""
    path = archive(tmp_path / "a.tgz", ("a", tarfile.REGTYPE))
    done = subprocess.run([sys.executable, "-c", KILLED, path, tmp_path / "out"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    remove_strays_once.cache_clear()
    unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tgz", "out"]


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("../evil", tarfile.REGTYPE, "leads out"),
        ("/tmp/evil", tarfile.REGTYPE, "leads out"),
        ("a/../../evil", tarfile.REGTYPE, "leads out"),
        ("link", tarfile.SYMTYPE, "link or a device"),
        ("link", tarfile.LNKTYPE, "link or a device"),
        ("device", tarfile.CHRTYPE, "link or a device"),
        ("pipe", tarfile.FIFOTYPE, "link or a device"),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_unpacked(name, kind, why, tmp_path):
    path = archive(tmp_path / "a.tgz", ("good", tarfile.REGTYPE), (name, kind))
    with pytest.raises(EffkerasError, match=f"not safe to unpack.*{why}"):
        unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tgz"]


def unsafe(path: Path, why: str) -> None:
    with pytest.raises(EffkerasError, match=f"not safe to unpack.*{why}"):
        unpack(path, path.with_name("out"))
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.tgz"]


def test_an_archive_that_expands_beyond_all_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "_EXPANSION", 10)
    monkeypatch.setattr(download_module, "_FLOOR", 2**20)
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 2**20
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    unsafe(path, "expands to over")


def test_a_name_of_megabytes_and_too_many_members_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a" * 2**21))
    unsafe(path, "a name of")
    monkeypatch.setattr(download_module, "_MOST_MEMBERS", 3)
    unsafe(archive(path, *((f"f{index}", tarfile.REGTYPE) for index in range(4))), "more than 3 members")


@pytest.mark.parametrize("keep", [0, 20, 0.3, 0.6])
def test_a_cut_archive_is_refused(keep, tmp_path):
    path = archive(tmp_path / "a.tgz", *((f"f{index}", tarfile.REGTYPE) for index in range(40)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(EffkerasError, match="cannot unpack"):
        unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tgz"]
