"""Downloads resume and appear whole or not at all; archives unpack below their folder, or not at all."""

from __future__ import annotations

import hashlib
import io
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
from effkeras.weights.cards import check
from effkeras.weights.download import download, unpack

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


class Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args):
        self.site = site
        super().__init__(*args)

    def do_GET(self):
        site = self.site
        asked = self.headers.get("Range")
        site.ranges.append(asked)
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
        self.send_header("Content-Length", str(len(site.content) - start))
        self.send_header("ETag", site.tag)
        self.end_headers()
        budget = site.budgets.pop(0) if site.budgets else len(site.content)
        self.wfile.write(site.content[start : start + budget])

    def log_message(self, *args):
        pass


@pytest.fixture
def site() -> Iterator[Site]:
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


def test_a_download_is_whole(site, tmp_path, capsys):
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
    assert files(tmp_path) == ["w.h5.part", "w.h5.part.etag"]
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
    (tmp_path / "w.h5.part").write_bytes(CONTENT)
    (tmp_path / "w.h5.part.etag").write_text('"one"')
    download(site.url, tmp_path / "w.h5")
    assert (tmp_path / "w.h5").read_bytes() == CONTENT


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


def test_without_network_it_says_where_to_put_the_file(tmp_path):
    with pytest.raises(EffkerasError, match=r"cannot reach http://127\.0\.0\.1:9/w\.h5 .* put it at .*h5$"):
        download("http://127.0.0.1:9/w.h5", tmp_path / "w.h5")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/w", "w.h5", ""])
def test_only_http_is_fetched(url, tmp_path):
    with pytest.raises(EffkerasError, match="not an http or https address"):
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


@pytest.mark.parametrize("keep", [0, 20, 0.3, 0.6])
def test_a_cut_archive_is_refused(keep, tmp_path):
    path = archive(tmp_path / "a.tgz", *((f"f{index}", tarfile.REGTYPE) for index in range(40)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(EffkerasError, match="cannot unpack"):
        unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tgz"]
