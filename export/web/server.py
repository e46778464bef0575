"""A static server on this machine, with the headers that WebAssembly needs for threads."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError

HOST = "127.0.0.1"
# Only a page with both may share memory between threads
# (https://developer.mozilla.org/docs/Web/JavaScript/Reference/Global_Objects/SharedArrayBuffer).
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


# The system's own table may lack these, or name a type that no browser runs.
_TYPES = {
    ".js": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
    ".bin": "application/octet-stream",
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: object, headers_sent: dict[str, str], **options: object) -> None:
        self.headers_sent = headers_sent
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def guess_type(self, path: Any) -> str:
        """The type of a file by its suffix."""
        return _TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: object) -> None:
        """Lists nothing: the page names all that it needs."""
        self.send_error(http.HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


@contextlib.contextmanager
def serving(folder: Path, port: int = 0, *, isolated: bool = True) -> Iterator[str]:
    """Serves a folder on 127.0.0.1 until the body ends; yields the page's address.

    Args:
        folder: the folder with index.html.
        port: the port; 0 takes a free one.
        isolated: send the two headers that threads need.

    Raises:
        EffkerasError: the port is taken or not allowed.
    """
    headers = {"Cache-Control": "no-store", **(ISOLATION if isolated else {})}
    handler = functools.partial(_Handler, directory=str(folder), headers_sent=headers)
    try:
        server = http.server.ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise EffkerasError(f"cannot serve on {HOST}:{port} ({error}); give another --port") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
