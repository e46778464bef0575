"""The store of a search: an Optuna study in an sqlite file, written in whole transactions.

Optuna creates the file and the study, prunes, and shows it in its dashboard. Trials are written here by SQL,
to the same tables, one transaction of less than a millisecond each; their schema is checked. Optuna's public
`add_trial` and `set_trial_state_values` are each one transaction too: after 163 kills no proposal and no
finished trial was incomplete, and one running trial had a part of its result, which is harmless where the
state decides. They take 80 and 100 ms at 20 genes on two busy cores.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.search.genomes import Genome, Space, genome_of, key
from effkeras.search.trials.records import Result, State, Trial, result_of
from effkeras.support.errors import EffkerasError

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


# Seconds between two signs of life of a running trial, and until a silent one counts as dead.
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
_HEARD = "SELECT trial_id FROM trial_heartbeats WHERE heartbeat >= datetime('now', ?)"
_FINISH = "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?"
_READ = (
    "SELECT t.trial_id, t.number, t.state, a.key, a.value_json "
    "FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id "
    "WHERE t.study_id = ? AND t.number >= ? ORDER BY t.number"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is written of a proposal; with a result it is finished at once, as the next tell.

    `after` counts the tells before it.
    """

    genome: Genome
    seed: int
    after: int
    owner: str = ""
    same_as: int | None = None
    result: Result | None = None

    @property
    def state(self) -> State:
        """Running, or waiting for the trial that it equals, or finished."""
        if self.result is not None:
            return self.result.state
        return "running" if self.same_as is None else "waiting"

    def attributes(self) -> dict[str, Any]:
        """As the trial's user attributes."""
        facts = {"genome": key(self.genome), "seed": self.seed, "after": self.after}
        if self.same_as is not None:
            return facts | {"same_as": self.same_as}
        return facts | {"owner": self.owner}


@dataclass(frozen=True, slots=True)
class StudySpec:
    """What a study is about: the value of a trial is its reward or, for a front, accuracy and `cost`."""

    space: Space
    name: str
    cost: str
    is_front: bool = False
    pruner: str = "none"

    @property
    def directions(self) -> list[str]:
        """Of the values, in Optuna's words."""
        return ["maximize", "minimize"] if self.is_front else ["maximize"]

    def values(self, result: Result) -> list[float]:
        """The values of a trial; none for one that failed."""
        if result.reward is None:
            return []
        if not self.is_front:
            return [result.reward]
        return [float(result.accuracy or 0.0), float(result.costs[self.cost])]


class Log:
    """The trials of a search, as one thread sees them."""

    def __init__(self, folder: Path, terms: StudySpec) -> None:
        """Opens a store that `create_log` has made."""
        self._path = folder / FILE
        self._study_spec = terms
        self._connection = connect(self._path)
        query = "SELECT study_id FROM studies WHERE study_name = ?"
        (self._study_id,) = self._connection.execute(query, (terms.name,)).fetchone()
        self._trials: list[Trial] = []
        self._study: optuna.Study | None = None

    def read(self) -> list[Trial]:
        """All trials, in the order of the asks."""
        known = next((i for i, trial in enumerate(self._trials) if not trial.is_finished), len(self._trials))
        rows = self._connection.execute(_READ, (self._study_id, known)).fetchall()
        self._trials[known:] = _trials_of(rows, self._study_spec.space)
        return list(self._trials)

    def add(self, ask: Ask, number: int) -> None:
        """Writes a proposal, the search's `number`-th."""
        with transaction(self._connection) as connection:
            row = (number, self._study_id, ask.state.upper(), _now())
            trial_id = connection.execute(_TRIAL, row).lastrowid or 0
            connection.executemany(_PARAM, _params(trial_id, self._study_spec.space, ask.genome))
            self._attribute(trial_id, ask.attributes())
            if ask.state == "running":
                connection.execute(_BEAT, (trial_id,))
            if ask.result is not None:
                self._finish(trial_id, ask.result, ask.after)

    def adopt(self, trial: Trial, owner: str, deaths: int) -> None:
        """Gives a running trial to another owner, after so many deaths of its processes."""
        with transaction(self._connection) as connection:
            self._attribute(trial.id, {"owner": owner, "deaths": deaths})
            connection.execute(_BEAT, (trial.id,))

    def finish(self, trial: Trial, result: Result, tell: int) -> None:
        """Makes the result the trial's, as the search's `tell`-th tell."""
        with transaction(self._connection):
            self._finish(trial.id, result, tell)

    def report(self, trial_id: int, step: int, reward: float) -> bool:
        """Writes a reward after epoch `step`; returns whether the pruner would end the trial."""
        with transaction(self._connection) as connection:
            connection.execute(_REPORT, (trial_id, step, reward))
        return self._study_spec.pruner != "none" and self._is_pruned(trial_id)

    def heartbeat(self, trial_id: int) -> None:
        """A sign of life of a running trial, from any thread."""
        with contextlib.closing(connect(self._path)) as connection:
            connection.execute(_BEAT, (trial_id,))

    def without_heartbeat(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those running trials that gave no sign of life for a while."""
        heard = {row[0] for row in self._connection.execute(_HEARD, (f"-{GRACE:.0f} seconds",))}
        return [trial for trial in trials if trial.id not in heard]

    def close(self) -> None:
        """Lets the database go."""
        self._connection.close()

    def _finish(self, trial_id: int, result: Result, tell: int) -> None:
        values = [(trial_id, *pair) for pair in enumerate(self._study_spec.values(result))]
        self._connection.executemany(_VALUE, values)
        self._attribute(trial_id, _told(result, tell))
        self._connection.execute(_FINISH, (result.state.upper(), _now(), trial_id))

    def _attribute(self, trial_id: int, facts: Mapping[str, Any]) -> None:
        rows = [(trial_id, name, json.dumps(value)) for name, value in facts.items()]
        self._connection.executemany(_ATTRIBUTE, rows)

    def _is_pruned(self, trial_id: int) -> bool:
        if self._study is None:
            self._study = load_study(self._path, self._study_spec.name, _pruner(self._study_spec.pruner))
        trial = next(one for one in self._study.get_trials(deepcopy=False) if one._trial_id == trial_id)
        return bool(self._study.pruner.prune(self._study, trial))


def create_log(folder: Path, terms: StudySpec) -> None:
    """Makes the store of a search in a folder, unless it is there already."""
    create(folder / FILE, terms.name, terms.directions)


def _trials_of(rows: Sequence[tuple[Any, ...]], space: Space) -> list[Trial]:
    """The trials of rows of (id, number, state, name and value of an attribute), one for each attribute."""
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
        told=facts.get("told"),
        same_as=facts.get("same_as"),
        result=result_of(facts["result"]) if "result" in facts else None,
    )


def _params(trial_id: int, space: Space, genome: Genome) -> Iterable[tuple[int, str, float, str]]:
    """A genome as Optuna's parameters: categorical distributions, and the index of what was chosen."""
    for gene, index in zip(space.genes, genome, strict=True):
        distribution = {"name": "CategoricalDistribution", "attributes": {"choices": gene.choices}}
        yield trial_id, gene.name, float(index), json.dumps(distribution)


def _told(result: Result, tell: int) -> dict[str, Any]:
    """A result as user attributes: whole for us, its figures one by one for whoever looks at the study."""
    table = result.to_table()
    shown = {name: table[name] for name in ("accuracy", "reason") if name in table}
    return {"result": table, **shown, **table["costs"], "told": tell}


def _now() -> str:
    """The local time as Optuna writes it."""
    return datetime.datetime.now().isoformat(sep=" ", timespec="microseconds")


def _pruner(name: str) -> optuna.pruners.BasePruner:
    from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner

    # The rungs of successive halving lie at 1, 3, 9, 27... reports, as Hyperband's do.
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return HyperbandPruner(min_resource=1, reduction_factor=3)
