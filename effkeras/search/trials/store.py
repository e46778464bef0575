"""The store of a search: an Optuna study in an sqlite file. No other module writes SQL.

Optuna's public API creates the study, prunes, and reads it for reports and its dashboard. Trials are written
here by SQL into Optuna's tables, each ask and each result in one transaction. `create` refuses a schema other
than the one these statements were written for, and tests compare the rows with those of Optuna's own storage.

Why not Optuna's `add_trial`, `set_trial_user_attr` and `set_trial_state_values`? Measured with Optuna 5.0 on
one core, 20 genes, CPU time (least of 60): an ask takes 28 ms with the API and 0.2 ms with SQL, a result 8 ms
and 0.1 ms, while a search in a table of trained networks evaluates a candidate in milliseconds. The API also
writes a result in five transactions. After 163 kills of a process that wrote 45 trials with it, no ask was
incomplete, but one running trial had part of its result. After 200 kills of processes that wrote 195 trials
with SQL, no ask or result was incomplete or written twice, and the strategy could replay the whole log.
`tests/search/trials/test_kills.py` repeats the kills on bare writers: 200 kills, 1,526 trials, same result.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.search.genomes import Genome, Space, genome_of
from effkeras.search.trials.records import Ask, Result, StudySpec, Trial, result_of
from effkeras.support.errors import EffkerasError, first_line, reading_work

if TYPE_CHECKING:
    import optuna

FILE = "search.db"
# Seconds that a writer waits for another writer's transaction.
_PATIENCE = 60
_SCHEMA = 12
_MISSING = "a search needs Optuna: pip install 'effkeras[search]'"


def create(path: Path, name: str, directions: Sequence[str]) -> None:
    """Creates the study in the file unless it exists; only one process may call this at a time.

    Raises EffkerasError when the file is not a store, or when its tables have another schema.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer at once
        _create_study(path, name, directions)
        _check_schema(path)
    except sqlite3.DatabaseError as error:
        raise EffkerasError(
            f"cannot use {path} as the store of a search: {error}; put a good copy back, or give "
            "another --out"
        ) from error


def load_study(
    path: Path, name: str | None = None, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """Loads the study with Optuna's public API; without a name, the only study of the file."""
    import optuna

    return optuna.load_study(study_name=name, storage=_storage(path), pruner=pruner)


def _connect(path: Path) -> sqlite3.Connection:
    """Opens a connection for one thread; `_transaction` commits."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    # The write-ahead log survives a kill of the process, even without a sync to disk at each commit.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commits everything that the body writes, or nothing."""
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
        from sqlalchemy.exc import DatabaseError, OperationalError
    except ImportError as error:
        raise EffkerasError(_MISSING) from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(
        max(before, optuna.logging.WARNING)
    )  # Optuna notes each study that it creates
    storage: Any = _storage(path)
    try:
        optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    except DatabaseError as error:
        if isinstance(error, OperationalError):  # of the disk or a lock
            raise
        raise sqlite3.DatabaseError(first_line(error)) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()
        optuna.logging.set_verbosity(before)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    from optuna.storages import RDBStorage

    engine = {"connect_args": {"timeout": _PATIENCE}}
    return RDBStorage(f"sqlite:///{path.absolute()}", engine_kwargs=engine)


def _check_schema(path: Path) -> None:
    with contextlib.closing(_connect(path)) as connection:
        (found,) = connection.execute("SELECT schema_version FROM version_info").fetchone()
    if found != _SCHEMA:
        raise EffkerasError(
            f"{path} has schema {found} of Optuna's tables, but effkeras supports schema {_SCHEMA}: "
            "pip install 'optuna>=5,<6'"
        )


# Seconds between two heartbeats of a running trial, and without a heartbeat until its worker counts as dead.
HEARTBEAT, GRACE = 10.0, 60.0

_TRIAL = "INSERT INTO trials (number, study_id, state, datetime_start) VALUES (?, ?, ?, ?)"
_PARAM = "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
_VALUE = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, 'FINITE')"
_ATTRIBUTE = (
    "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?) "
    "ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
)
_REPORT = (
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    "VALUES (?, ?, ?, 'FINITE') "
    "ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = excluded.intermediate_value"
)
_BEAT = (
    "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, CURRENT_TIMESTAMP) "
    "ON CONFLICT (trial_id) DO UPDATE SET heartbeat = excluded.heartbeat"
)
_ALIVE = "SELECT trial_id FROM trial_heartbeats WHERE heartbeat >= datetime('now', ?)"
_FINISH = "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?"
_READ = (
    "SELECT t.trial_id, t.number, t.state, a.key, a.value_json "
    "FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = ? AND t.number >= ? ORDER BY t.number"
)


class Log:
    """Reads and writes the trials of a search, for one thread."""

    def __init__(self, folder: Path, spec: StudySpec) -> None:
        """Opens a store that `create_log` created."""
        self._path = folder / FILE
        self._study_spec = spec
        self._connection = _connect(self._path)
        query = "SELECT study_id FROM studies WHERE study_name = ?"
        (self._study_id,) = self._connection.execute(query, (spec.name,)).fetchone()
        self._trials: list[Trial] = []
        self._study: optuna.Study | None = None

    def read(self) -> list[Trial]:
        """All trials in the order of their asks."""
        known = next((i for i, trial in enumerate(self._trials) if not trial.is_finished), len(self._trials))
        rows = self._connection.execute(_READ, (self._study_id, known)).fetchall()
        with reading_work(self._path, "the search starts anew"):
            self._trials[known:] = _trials_of(rows, self._study_spec.space)
        return list(self._trials)

    def add(self, ask: Ask, number: int) -> None:
        """Writes ask `number` of the search."""
        with _transaction(self._connection) as connection:
            row = (number, self._study_id, ask.state.upper(), _now())
            trial_id = connection.execute(_TRIAL, row).lastrowid or 0
            connection.executemany(_PARAM, _params(trial_id, self._study_spec.space, ask.genome))
            self._attribute(trial_id, ask.attributes())
            if ask.state == "running":
                connection.execute(_BEAT, (trial_id,))
            if ask.result is not None:
                self._finish(trial_id, ask.result, ask.after)

    def adopt(self, trial: Trial, owner: str, deaths: int) -> None:
        """Gives a running trial to another owner after `deaths` deaths of its workers."""
        with _transaction(self._connection) as connection:
            self._attribute(trial.id, {"owner": owner, "deaths": deaths})
            connection.execute(_BEAT, (trial.id,))

    def finish(self, trial: Trial, result: Result, tell: int) -> None:
        """Writes the result of a trial, as tell `tell` of the search."""
        with _transaction(self._connection):
            self._finish(trial.id, result, tell)

    def report(self, trial_id: int, step: int, reward: float) -> bool:
        """Writes a reward after epoch `step`; returns whether the pruner ends the trial."""
        with _transaction(self._connection) as connection:
            connection.execute(_REPORT, (trial_id, step, reward))
        return self._study_spec.pruner != "none" and self._is_pruned(trial_id)

    def heartbeat(self, trial_id: int) -> None:
        """Writes a heartbeat of a running trial, from any thread."""
        with contextlib.closing(_connect(self._path)) as connection:
            connection.execute(_BEAT, (trial_id,))

    def without_heartbeat(self, trials: Iterable[Trial]) -> list[Trial]:
        """The running trials without a heartbeat in the last `GRACE` seconds."""
        alive = {row[0] for row in self._connection.execute(_ALIVE, (f"-{GRACE:.0f} seconds",))}
        return [trial for trial in trials if trial.id not in alive]

    def close(self) -> None:
        """Closes the database."""
        self._connection.close()

    def _finish(self, trial_id: int, result: Result, tell: int) -> None:
        values = [(trial_id, *pair) for pair in enumerate(self._study_spec.values(result))]
        self._connection.executemany(_VALUE, values)
        self._attribute(trial_id, _result_facts(result, tell))
        self._connection.execute(_FINISH, (result.state.upper(), _now(), trial_id))

    def _attribute(self, trial_id: int, facts: Mapping[str, Any]) -> None:
        rows = [(trial_id, name, json.dumps(value)) for name, value in facts.items()]
        self._connection.executemany(_ATTRIBUTE, rows)

    def _is_pruned(self, trial_id: int) -> bool:
        if self._study is None:
            self._study = load_study(self._path, self._study_spec.name, _pruner(self._study_spec.pruner))
        trial = next(one for one in self._study.get_trials(deepcopy=False) if one._trial_id == trial_id)
        return bool(self._study.pruner.prune(self._study, trial))


def create_log(folder: Path, spec: StudySpec) -> None:
    """Creates the store of a search in a folder unless it exists."""
    create(folder / FILE, spec.name, spec.directions)


def _trials_of(rows: Sequence[tuple[Any, ...]], space: Space) -> list[Trial]:
    """Trials from rows of (id, number, state, attribute name, attribute value), one row per attribute."""
    facts: dict[tuple[int, int, str], dict[str, Any]] = {}
    for trial_id, number, state, name, value in rows:
        facts.setdefault((trial_id, number, state), {})[name] = json.loads(value)
    return [_trial_of(*head, found, space) for head, found in facts.items()]


def _trial_of(trial_id: int, number: int, state: str, facts: Mapping[str, Any], space: Space) -> Trial:
    return Trial(
        id=trial_id,
        number=number,
        genome=genome_of(facts["genome"], space),
        seed=facts["seed"],
        state=state.lower(),  # type: ignore[arg-type]
        after=facts["after"],
        owner=facts.get("owner", ""),
        deaths=facts.get("deaths", 0),
        tell=facts.get("tell", facts.get("told")),  # "told" in stores of the version before
        same_as=facts.get("same_as"),
        result=result_of(facts["result"]) if "result" in facts else None,
    )


def _params(trial_id: int, space: Space, genome: Genome) -> Iterable[tuple[int, str, float, str]]:
    """A genome as Optuna parameters: a categorical distribution and the index of the choice for each gene."""
    for gene, index in zip(space.genes, genome, strict=True):
        distribution = {"name": "CategoricalDistribution", "attributes": {"choices": gene.choices}}
        yield trial_id, gene.name, float(index), json.dumps(distribution)


def _result_facts(result: Result, tell: int) -> dict[str, Any]:
    """A result as user attributes: one table for `read`, and separate values for the dashboard."""
    table = result.to_table()
    shown = {name: table[name] for name in ("accuracy", "reason") if name in table}
    return {"result": table, **shown, **table["costs"], "tell": tell}


def _now() -> str:
    """The local time in Optuna's format."""
    return datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")


def _pruner(name: str) -> optuna.pruners.BasePruner:
    from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner

    # Successive halving prunes at 1, 3, 9, 27... reports, as Hyperband does.
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return HyperbandPruner(min_resource=1, reduction_factor=3)
