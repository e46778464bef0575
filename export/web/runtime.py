"""LiteRT.js: finds it in a folder or the cache, or fetches it from npm, and copies what a page needs.

`runtime.toml` names the version and the checksum that npm publishes. The `npm` client fetches, so that its
settings (registry, proxy) hold; what it brings counts only if it has that checksum.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.support.files import cache_folder, whole_folder
from effkeras.support.tables import read_toml, to_record
from effkeras.weights.download import unpack

MODULE, WASM = "litert/index.js", "litert/wasm/"  # in the folder of a page
PATIENCE = 600  # seconds that npm may take
_NOTICE = """LiteRT.js ({package} {version}), Copyright Google LLC, {licence}: https://spdx.org/licenses/{licence}.html
The files of this folder are those of the package on npm, unchanged.
"""
_INSIDE = "package"  # where npm's archives hold the package


@dataclass(frozen=True, slots=True)
class Pinned:
    """The content of runtime.toml: the package on npm, its version, licence, checksum and needed files."""

    package: str
    version: str
    licence: str
    integrity: str
    module: str
    builds: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name and version, as npm takes it."""
        return f"{self.package}@{self.version}"

    @property
    def files(self) -> tuple[str, ...]:
        """The paths in the package that a page needs."""
        return (self.module, *(f"{build}{suffix}" for build in self.builds for suffix in (".js", ".wasm")))


@dataclass(frozen=True, slots=True)
class Runtime:
    """An unpacked LiteRT.js."""

    folder: Path
    version: str

    def copy_to(self, page: Path) -> None:
        """Copies what a page needs to its folder."""
        wanted = pinned()
        (page / WASM).mkdir(parents=True)
        notice = _NOTICE.format(package=wanted.package, version=self.version, licence=wanted.licence)
        (page / WASM).with_name("NOTICE.txt").write_text(notice, "utf-8")
        shutil.copyfile(self.folder / wanted.module, page / MODULE)
        for name in wanted.files[1:]:
            shutil.copyfile(self.folder / name, page / WASM / Path(name).name)


@functools.cache
def pinned() -> Pinned:
    """The LiteRT.js that pages are made and tested with."""
    file = Path(str(files("export.web").joinpath("runtime.toml")))
    return to_record(Pinned, read_toml(file), str(file))


def how_to_get() -> str:
    """How to get LiteRT.js where npm is missing or has no network."""
    name = pinned().name
    return (
        f"run `npm pack {name}` where npm and a network are, and give the file that it writes, or a folder "
        "that it is unpacked to, with --runtime"
    )


def find_runtime(given: Path | None = None) -> Runtime:
    """The LiteRT.js in `given`, else that of the cache, else the pinned one from npm.

    Args:
        given: npm's archive (.tgz), an unpacked package, or a folder in which npm installed it.

    Raises:
        EffkerasError: it is incomplete, has another checksum, or cannot be fetched.
    """
    if given is None:
        folder = _cached()
        return _opened(folder) if folder.is_dir() else _fetched()
    if given.is_file():
        check_integrity(given)
        return _unpacked(given)
    if not given.is_dir():
        raise EffkerasError(f"--runtime {given}: there is no such file or folder; {how_to_get()}")
    places = (given, given / _INSIDE, given / "node_modules" / pinned().package, given / pinned().package)
    found = next((one for one in places if (one / "package.json").is_file() and _name(one)), None)
    if found is None:
        raise EffkerasError(f"--runtime {given} holds no package {pinned().package}; {how_to_get()}")
    return _opened(found)


def available() -> str | None:
    """Why LiteRT.js cannot be had without a network, and npm is missing too; None if it may be had."""
    if _cached().is_dir() or shutil.which("npm"):
        return None
    return f"LiteRT.js {pinned().version} is not in {cache_folder()}, and there is no npm to fetch it"


def check_integrity(archive: Path) -> None:
    """Raises EffkerasError unless a file has the pinned checksum."""
    method, _, expected = pinned().integrity.partition("-")
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, method).digest()
    if base64.b64encode(digest).decode() != expected:
        raise EffkerasError(
            f"{archive} is not {pinned().name} as npm publishes it (its {method} differs); {how_to_get()}"
        )


def _cached() -> Path:
    return cache_folder() / "litert.js" / pinned().version


def _fetched() -> Runtime:
    npm = shutil.which("npm")
    if npm is None:
        raise EffkerasError(f"the page needs LiteRT.js, and there is no npm to fetch it: {how_to_get()}")
    note(f"fetching {pinned().name} from npm (12 MB; kept in {cache_folder()})")
    with tempfile.TemporaryDirectory(prefix="effkeras-") as folder:
        _check_https(npm)
        words = [npm, "pack", pinned().name, "--ignore-scripts", "--silent", "--pack-destination", folder]
        _run(words)
        archive = next(Path(folder).glob("*.tgz"), None)
        if archive is None:
            raise EffkerasError(f"npm brought no archive of {pinned().name}; {how_to_get()}")
        check_integrity(archive)
        return _unpacked(archive)


def _check_https(npm: str) -> None:
    registry = _run([npm, "config", "get", "registry"]).strip()
    if not registry.startswith("https://"):
        raise EffkerasError(f"npm's registry is {registry}, not https; set it with `npm config`")


def _run(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EffkerasError(f"npm cannot fetch {pinned().name} ({error}); {how_to_get()}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        reason = lines[0].removeprefix("npm error").strip() if lines else f"exit code {done.returncode}"
        raise EffkerasError(f"npm cannot fetch {pinned().name} ({reason}); {how_to_get()}")
    return done.stdout


def _unpacked(archive: Path) -> Runtime:
    """The pinned runtime, unpacked to the cache."""
    target = _cached()
    if not target.is_dir():
        with whole_folder(target) as fresh:
            unpack(archive, fresh.with_name("unpacked"))
            inner = fresh.with_name("unpacked") / _INSIDE
            _opened(inner)
            fresh.rmdir()
            inner.rename(fresh)
    return _opened(target)


def _opened(folder: Path) -> Runtime:
    missing = [name for name in pinned().files if not (folder / name).is_file()]
    if missing:
        raise EffkerasError(f"{folder} lacks {missing[0]} of LiteRT.js; delete it, and {how_to_get()}")
    runtime = Runtime(folder, _described(folder)["version"])
    if runtime.version != pinned().version:
        note(f"{folder} is LiteRT.js {runtime.version}; pages are tested with {pinned().version}")
    return runtime


def _name(folder: Path) -> bool:
    return _described(folder)["name"] == pinned().package


def _described(folder: Path) -> dict[str, str]:
    try:
        table = json.loads((folder / "package.json").read_text("utf-8"))
        return {"name": str(table["name"]), "version": str(table["version"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise EffkerasError(f"{folder / 'package.json'} is no package of npm; {how_to_get()}") from error
