"""The sqlite file of a search: an Optuna study, written in whole transactions.

Optuna makes the file and the study, prunes, and reads it in its dashboard. Its storage interface writes a
trial in dozens of statements and several transactions: 80 ms of a core at 20 genes, and a kill in between
leaves half a trial. So trials are written here by SQL, to the same tables, in one transaction of less than a
millisecond each. The tables are checked to be of the schema that is known.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.errors import EffkerasError

if TYPE_CHECKING:
    import optuna

FILE = "search.db"
# Seconds that a writer waits for another one's transaction.
_PATIENCE = 60
_SCHEMA = 12
_MISSING = "a search needs Optuna: pip install 'effkeras[search]'"


def create(path: Path, name: str, directions: Sequence[str]) -> None:
    """Makes the study in the file, unless it is there already; one process at a time.

    Raises EffkerasError when the file is no store, or Optuna's tables are others than we know.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer at once
        _create_study(path, name, directions)
        _check_schema(path)
    except sqlite3.DatabaseError as error:
        raise EffkerasError(f"cannot use {path} as the store of a search: {error}") from error


def load_study(path: Path, name: str, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """The study as Optuna sees it."""
    import optuna

    return optuna.load_study(study_name=name, storage=_storage(path), pruner=pruner)


def connect(path: Path) -> sqlite3.Connection:
    """A connection for one thread; nothing is committed but by `transaction`."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    # A write-ahead log is whole after any kill of a process without waiting for the disk at each commit.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Everything that is written in the body, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _create_study(path: Path, name: str, directions: Sequence[str]) -> None:
    try:
        import optuna
    except ImportError as error:
        raise EffkerasError(_MISSING) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))  # no notes of what is created
    storage: Any = _storage(path)
    try:
        optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    finally:
        storage.remove_session()
        storage.engine.dispose()
        optuna.logging.set_verbosity(before)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    from optuna.storages import RDBStorage

    engine = {"connect_args": {"timeout": _PATIENCE}}
    return RDBStorage(f"sqlite:///{path.absolute()}", engine_kwargs=engine)


def _check_schema(path: Path) -> None:
    with contextlib.closing(connect(path)) as connection:
        (found,) = connection.execute("SELECT schema_version FROM version_info").fetchone()
    if found != _SCHEMA:
        raise EffkerasError(
            f"{path} has Optuna's tables of schema {found}, and a search knows {_SCHEMA}: "
            "pip install 'optuna>=5,<6'"
        )
