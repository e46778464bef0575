"""The server gives a page its files with the right types and headers, and nothing else."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from effkeras.support.errors import EffkerasError
from export.web.server import ISOLATION, serving


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "page"
    (folder / "empty").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("no")
    for name in ("index.html", "page.js", "litert.wasm", "model.tflite"):
        (folder / name).write_text(name)
    return folder


def test_types_and_headers(folder):
    types = {
        "": "text/html",
        "page.js": "text/javascript",
        "litert.wasm": "application/wasm",
        "model.tflite": "application/octet-stream",
    }
    with serving(folder) as address:
        assert address.startswith("http://127.0.0.1:")
        for name, kind in types.items():
            with urllib.request.urlopen(address + name) as answer:
                assert answer.headers["Content-Type"].split(";")[0] == kind
                assert {key: answer.headers[key] for key in ISOLATION} == ISOLATION


def test_without_isolation_there_are_no_such_headers(folder):
    with serving(folder, isolated=False) as address, urllib.request.urlopen(address) as answer:
        assert not ISOLATION.keys() & set(answer.headers)


@pytest.mark.parametrize("path", ["empty/", "nothing.js", "..%2fsecret.txt"])
def test_nothing_else_is_given(folder, path):
    with serving(folder) as address, pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(address + path)
    caught.value.close()


def test_a_taken_port_is_one_line(folder):
    with serving(folder) as address:
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(EffkerasError, match="give another --port"), serving(folder, port):
            pass
