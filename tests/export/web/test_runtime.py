"""LiteRT.js comes from a folder, an archive, the cache or npm, and only as npm published it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import tarfile
from pathlib import Path

import pytest
from support.web_page import fake_runtime

from effkeras.support.errors import EffkerasError
from export.web import runtime
from export.web.runtime import available, find_runtime, pinned

# What the real npm does for these two commands; ARCHIVE is copied whatever the package.
NPM = """#!/bin/sh
case "$1" in
  config) echo "{registry}";;
  pack) shift; while [ "$1" != --pack-destination ]; do shift; done; cp "{archive}" "$2/made.tgz";;
esac
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path) -> Path:
    """An archive of npm's layout."""
    file = tmp_path / "core.tgz"
    with tarfile.open(file, "w:gz") as tar:
        tar.add(fake_runtime(tmp_path / "unpacked"), "package")
    return file


@pytest.fixture
def accepted(archive, monkeypatch):
    """Makes the archive's checksum the pinned one."""
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    other = dataclasses.replace(pinned(), integrity=f"sha512-{digest}")
    monkeypatch.setattr(runtime, "pinned", lambda: other)


def put_npm(tmp_path, monkeypatch, archive, registry="https://registry.example/"):
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM.format(registry=registry, archive=archive))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def test_npm_brings_it_once(tmp_path, monkeypatch, archive, accepted, cache):
    put_npm(tmp_path, monkeypatch, archive)
    found = find_runtime()
    assert (found.folder, found.version) == (cache / "litert.js" / pinned().version, pinned().version)
    (tmp_path / "bin" / "npm").unlink()
    monkeypatch.setenv("PATH", "")
    assert find_runtime() == found
    assert available() is None


def test_another_archive_is_refused(tmp_path, monkeypatch, archive, cache):
    put_npm(tmp_path, monkeypatch, archive)
    with pytest.raises(EffkerasError, match=r"not @litertjs/core@.* as npm publishes it"):
        find_runtime()
    with pytest.raises(EffkerasError, match="not @litertjs/core@"):
        find_runtime(archive)
    assert not (cache / "litert.js" / pinned().version).exists()


def test_npm_must_use_https(tmp_path, monkeypatch, archive, accepted):
    put_npm(tmp_path, monkeypatch, archive, registry="http://registry.example/")
    with pytest.raises(EffkerasError, match="not https"):
        find_runtime()


def test_without_npm_one_line_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EffkerasError, match=r"npm pack @litertjs/core@.*--runtime") as caught:
        find_runtime()
    assert "\n" not in str(caught.value)
    assert "no npm" in available()


def test_a_failing_npm_gives_its_reason(tmp_path, monkeypatch, archive):
    put_npm(tmp_path, monkeypatch, archive)
    script = (
        "#!/bin/sh\n[ $1 = config ] && echo https://x && exit\necho 'npm error code ENOTFOUND' >&2; exit 1\n"
    )
    (tmp_path / "bin" / "npm").write_text(script)
    with pytest.raises(EffkerasError, match="code ENOTFOUND"):
        find_runtime()


def test_an_archive_is_unpacked_to_the_cache(archive, accepted, cache):
    assert find_runtime(archive).folder.parent == cache / "litert.js"


@pytest.mark.parametrize("place", [".", "package", "node_modules/@litertjs/core", "@litertjs/core"])
def test_an_unpacked_package_is_found(tmp_path, place):
    folder = fake_runtime(tmp_path / "given" / place)
    assert find_runtime(tmp_path / "given").folder == folder


def test_another_version_is_taken_and_noted(tmp_path, capsys):
    assert find_runtime(fake_runtime(tmp_path / "given", version="9.9.9")).version == "9.9.9"
    assert "LiteRT.js 9.9.9" in capsys.readouterr().err


def test_an_incomplete_package_is_refused(tmp_path):
    folder = fake_runtime(tmp_path / "given")
    (folder / pinned().files[-1]).unlink()
    with pytest.raises(EffkerasError, match="lacks wasm/"):
        find_runtime(folder)
    with pytest.raises(EffkerasError, match="holds no package"):
        find_runtime(tmp_path)
    with pytest.raises(EffkerasError, match="no such file"):
        find_runtime(tmp_path / "nowhere")
