"""Atomic file writing, and safe names for files."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NoReturn

from effkeras.support.errors import EffkerasError
from effkeras.support.replacing import (
    NEW,
    PREFIX,
    put_file,
    put_folder,
    remove_strays_once,
    temporary_file,
    temporary_folder,
)

# The longest name for files: with prefixes and suffixes it must fit into a file name's 255 bytes.
MOST_BYTES = 200
_SHOWN = 60  # characters of a rejected name in the error
_LONGEST_PART = 255  # bytes of a name in a folder

_LEVELS = 4  # see `folder_with`


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it to `path` on success, when it is on the disk.

    Raises EffkerasError when the folder cannot be written. The temporary file keeps the suffix of
    `path`, because some writers choose their format by it.
    """
    path = Path(path)
    make_folder(path.parent)
    if path.is_dir():
        raise EffkerasError(f"cannot write {path}: it is a folder; give a file name")
    remove_strays_once(path.parent.absolute())
    try:
        with temporary_file(path) as temporary:
            yield temporary
            with contextlib.suppress(OSError):
                temporary.chmod(0o666 & ~_umask())
            put_file(temporary, path)
    except OSError as error:
        _raise_of(error, path)


def folder_with(path: Path, *names: str) -> Path | None:
    """The nearest folder, from `path` itself up to four levels above it, that holds files of these names.

    None if there is none, or no such path. RUN/compressed/RECIPE/artifacts/FILE lies four levels below RUN.
    """
    if not path.exists():
        return None
    path = path.resolve()
    folders = (path, *path.parents[:_LEVELS])
    return next((one for one in folders if all((one / name).is_file() for name in names)), None)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path`, which takes the place of `path` on success, when it is on the disk.

    Success removes what was at `path` before, file or folder; a failure leaves it in place. Raises
    EffkerasError when the folder cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    remove_strays_once(path.parent.absolute())
    try:
        with temporary_folder(path) as aside:
            fresh = aside / NEW / path.name
            fresh.mkdir(parents=True)
            yield fresh
            put_folder(aside, path)
    except OSError as error:
        _raise_of(error, path)


def _raise_of(error: OSError, path: Path) -> NoReturn:
    """Raises the error of a writer as one about `path`, unless it is of the terminal or of another file."""
    name = error.filename if isinstance(error.filename, str) else ""
    is_other = name not in ("", str(path)) and PREFIX not in name
    if isinstance(error, BrokenPipeError) or is_other:
        raise error
    raise EffkerasError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes | bytearray) -> None:
    """Writes `content` to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def make_folder(path: Path) -> Path:
    """Creates a folder and its parents; raises EffkerasError when that is impossible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EffkerasError(f"cannot create the folder {path}: {error.strerror}") from error
    return Path(path)


def check_can_make(path: Path) -> None:
    """Raises EffkerasError when a folder could not be created or written. Creates nothing."""
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not there.is_dir():
        raise EffkerasError(f"cannot create the folder {path}: {there} is a file")
    if not os.access(there, os.W_OK):
        raise EffkerasError(f"cannot create the folder {path}: no permission to write in {there}")


def cache_folder() -> Path:
    """The folder for what can be made or downloaded again: `$EFFKERAS_CACHE`, else `~/.cache/effkeras`."""
    chosen = os.environ.get("EFFKERAS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "effkeras"


@contextlib.contextmanager
def own_temporary_files() -> Iterator[None]:
    """What libraries leave in the temporary folder meanwhile goes afterwards, also after an error.

    TensorFlow's AutoGraph leaves each source that a full disk does not let it write. The folder is that of
    the whole process, so other threads use it too.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="effkeras-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def below(folder: Path, name: str) -> Path:
    """`folder / name`, as the name alone tells: links in the folder may lead anywhere.

    Raises EffkerasError when `name` is absolute, has a ".." or is the name of no file.
    """
    parts = PurePath(name).parts
    if not _is_file_name(name) or not parts or PurePath(name).is_absolute() or ".." in parts:
        raise EffkerasError(f"the file name {name[:_SHOWN]!r} leads out of {folder}; use names inside it")
    return folder / name


def _is_file_name(name: str) -> bool:
    parts = name.split("/")
    return "\0" not in name and max(len(part.encode(errors="replace")) for part in parts) <= _LONGEST_PART


def inside(folder: Path, name: str) -> Path:
    """`folder / name`. Raises EffkerasError when `name` leads out of `folder`, or is the name of no file."""
    is_name = _is_file_name(name)
    path = (folder / name).resolve() if is_name else folder
    if not is_name or not path.is_relative_to(folder.resolve()):
        raise EffkerasError(f"the file name {name!r} leads out of {folder}; use names inside it")
    return path


def safe_name(name: str, what: str) -> str:
    """The name itself, checked for use as a file or folder name; errors call it `what`.

    Raises EffkerasError for a name that is empty, hidden (a leading dot), longer than 200 bytes, or contains
    a slash, a backslash or characters that cannot be printed.
    """
    problems = {
        "is empty": not name,
        "contains characters that cannot be printed": not name.isprintable(),
        "contains a slash or backslash": bool({"/", "\\"} & set(name)),
        "starts with a dot": name.startswith("."),
        f"is longer than {MOST_BYTES} bytes": len(name.encode(errors="replace")) > MOST_BYTES,
    }
    problem = next((text for text, holds in problems.items() if holds), "")
    if problem:
        shown = repr(name[:_SHOWN]) + ("..." if len(name) > _SHOWN else "")
        raise EffkerasError(f"{what} {shown} {problem}; files are named after it: choose a plain name")
    return name


def distinct_names(files: Iterable[Path]) -> dict[Path, str]:
    """A short name for each file: its stem, with the folder that differs where several share a stem.

    Where no single folder level distinguishes them, the name is the whole path.
    """
    unique = list(dict.fromkeys(files))
    names = {file: file.stem for file in unique}
    for stem in [stem for stem, count in Counter(names.values()).items() if count > 1]:
        alike = [file for file in unique if file.stem == stem]
        folders = [file.absolute().parent.parts for file in alike]
        differing = (level for level in zip(*folders, strict=False) if len(set(level)) == len(alike))
        level = next(differing, None)
        names |= {
            file: str(file) if level is None else str(Path(level[place], stem))
            for place, file in enumerate(alike)
        }
    return names


def output_files(folder: Path, sources: Sequence[Path], suffix: str) -> dict[Path, Path]:
    """An output file in `folder` for each source, all distinct.

    It has the source's stem and `suffix`. Where several sources would share that name (a.jpg and a.png, or
    a.png and A.png), the suffix follows the whole name. Raises EffkerasError when an output would overwrite a
    source.
    """
    counts = Counter(source.stem.casefold() for source in sources)
    unique = [source for source in sources if counts[source.stem.casefold()] == 1]
    names = {source: f"{source.stem}{suffix}" for source in unique}
    taken = {name.casefold() for name in names.values()}
    for source in (one for one in sources if one not in names):
        names[source] = next(name for name in _names(source.name, suffix) if name.casefold() not in taken)
        taken.add(names[source].casefold())
    own = {source.resolve() for source in sources}
    for name in names.values():
        if (folder / name).resolve() in own:
            raise EffkerasError(f"results in {folder} would overwrite {folder / name}; give another folder")
    return {source: folder / names[source] for source in sources}


def _names(name: str, suffix: str) -> Iterator[str]:
    yield f"{name}{suffix}"
    for number in itertools.count(2):
        yield f"{name}-{number}{suffix}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
