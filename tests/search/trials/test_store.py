"""The store: an Optuna study that any process can follow, whatever was killed and whenever."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sqlite3
import statistics
import time
import types

import optuna
import pytest
from support import fake_search
from support.fake_search import Accuracy, Climbing, Fake, FakeSpace, fake_job
from support.space_files import shipped, space_from

from effkeras.data.contents import Contents
from effkeras.search.evaluation.costs import LimitedSpace
from effkeras.search.evaluation.evaluators import Evaluation
from effkeras.search.evaluation.settings import EvaluationData, EvaluationSettings
from effkeras.search.folder import identify, trial_rows
from effkeras.search.objectives import Objective
from effkeras.search.run import MostFailedError, search
from effkeras.search.strategies.strategy import STRATEGIES as KINDS
from effkeras.search.strategies.strategy import Feedback
from effkeras.search.trials import locks
from effkeras.search.trials.job import NamedStrategy, create_store, locks_of, open_ledger, replica
from effkeras.search.trials.ledger import DIED, Limits
from effkeras.search.trials.records import Result, Trial
from effkeras.search.trials.workers import Assignment, InProcess
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml


def trials_in(job):
    return open_ledger(job, Limits(job.trials)).trials()


def study_in(job):
    storage = optuna.storages.RDBStorage(f"sqlite:///{job.out}/search.db")
    return optuna.load_study(study_name=None, storage=storage)


def order_of_tells(trials):
    return [trial.number for trial in sorted(trials, key=lambda trial: trial.tell)]


def test_optuna_reads_what_was_searched(tmp_path):
    job = fake_job(tmp_path, trials=8, evaluation=Fake(crashes=(2,), steps=3))
    status = search(job, InProcess())
    study = study_in(job)
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.best_value == status.best.result.reward
    for trial, ours in zip(study.trials, trials_in(job), strict=True):
        trial._validate()
        assert trial.params == {f"gene{i}": choice for i, choice in enumerate(ours.genome)}
        assert trial.state.name.lower() == ours.state
        assert trial.user_attrs["genome"] == "-".join(map(str, ours.genome))
        if ours.state == "complete":
            assert trial.value == pytest.approx(fake_search.value(ours.genome))
            assert trial.user_attrs["macs"] == sum(ours.genome)
            steps = trial.intermediate_values
            assert steps.get(3) == (None if ours.same_as is not None else pytest.approx(trial.value))
        else:
            assert trial.user_attrs["reason"] == "ValueError: no stage can have 2 blocks"


def test_the_tables_are_written_as_optuna_writes_them(tmp_path):
    """The same trial by our SQL and by Optuna's own storage: equal rows, but for keys and times."""
    job = fake_job(tmp_path / "ours", trials=1, evaluation=Fake(steps=2))
    search(job, InProcess())
    study = study_in(job)
    (trial,) = study.trials
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/theirs.db")
    theirs = optuna.create_study(study_name=study.study_name, storage=storage, direction="maximize")
    theirs.add_trial(trial)
    tables = ("trials", "trial_params", "trial_values", "trial_user_attributes", "trial_intermediate_values")
    for table in tables:
        assert rows(job.out / "search.db", table) == rows(tmp_path / "theirs.db", table)


def rows(path, table):
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in found.description]
        facts = [dict(zip(names, row, strict=True)) for row in found]
    connection.close()
    for fact in facts:
        for name in list(fact):
            if name in ("param_id", "trial_value_id", "datetime_start", "datetime_complete") or (
                name.startswith("trial_") and name.endswith("_id")
            ):
                del fact[name]
            elif name.endswith("_json"):
                fact[name] = json.loads(fact[name])
    return sorted(facts, key=repr)


SMALL = {"population": 8, "tournament": 3}
STRATEGIES = [
    Climbing(),
    *(NamedStrategy(name) for name in KINDS.entries()),
    NamedStrategy("evolution", SMALL),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_a_resumed_search_proposes_what_the_unbroken_one_would(tmp_path, strategy):
    plain = {"trials": 30, "strategy": strategy, "evaluation": Fake(crashes=(3,))}
    whole, broken = fake_job(tmp_path / "whole", **plain), fake_job(tmp_path / "broken", **plain)
    search(whole, InProcess())
    for cut in (1, 7, 13):
        lost, owner = broken_off(broken, cut)
    search(broken, InProcess())
    ours, theirs = trials_in(broken), trials_in(whole)
    assert ours[lost.number].owner != owner
    assert [trial.genome for trial in ours] == [trial.genome for trial in theirs]
    assert [trial.seed for trial in ours] == [trial.seed for trial in theirs]
    assert order_of_tells(ours) == order_of_tells(theirs)


def broken_off(job, cut):
    """Finishes some candidates of a search; then a process takes one and dies."""
    identify(job)
    create_store(job)
    assignment = Assignment(job, Limits(30), open_ledger(job, Limits(30)))
    pool = InProcess()
    pool.start(assignment)
    for _ in range(cut):
        pool.step()
    with locks.claimed(locks_of(job.out), "s") as owner:
        lost = assignment.ledger.take(owner)
    pool.close()
    return lost, owner


def test_more_trials_go_on_where_fewer_ended(tmp_path):
    search(fake_job(tmp_path / "two", trials=6), InProcess())
    search(fake_job(tmp_path / "two", trials=15), InProcess())
    search(fake_job(tmp_path / "one", trials=15), InProcess())
    two, one = trials_in(fake_job(tmp_path / "two")), trials_in(fake_job(tmp_path / "one"))
    assert [trial.genome for trial in two] == [trial.genome for trial in one]


def test_a_finished_search_has_nothing_to_do(tmp_path):
    job = fake_job(tmp_path, trials=5)
    first = search(job, InProcess())
    before = (tmp_path / "results.jsonl").read_text()
    assert search(job, InProcess()) == first
    assert (tmp_path / "results.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"strategy": Climbing("other")}, "strategy.name was 'climber' and is now 'other'"),
        ({"strategy": Climbing(options={"population": 9})}, "strategy.population was not given and is now 9"),
        ({"objective": Accuracy(target=2.0)}, "objective.target was 1.0 and is now 2.0"),
        ({"space": FakeSpace(sizes=(6, 6, 6))}, "the choices of the space fake have changed"),
        ({"space": FakeSpace("big")}, "space.name was 'fake' and is now 'big'"),
        ({"evaluation": Fake(steps=9)}, "evaluation.steps was 0 and is now 9"),
        ({"pruner": "halving"}, "pruner was 'none' and is now 'halving'"),
    ],
)
def test_a_folder_of_another_search_is_refused(tmp_path, changes, named):
    search(fake_job(tmp_path, trials=2), InProcess())
    with pytest.raises(EffkerasError) as refused:
        search(fake_job(tmp_path, trials=2, **changes), InProcess())
    assert named in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_the_folder_says_where_its_space_is_read_from(tmp_path):
    text = 'kind = "blocks"\nbase = "efficientnet-digits"\nsize = [32, 48]\n'
    for folder, limits in (("a", {}), ("b", {"macs": 1e9})):  # the file has been moved meanwhile
        (tmp_path / folder).mkdir()
        space = LimitedSpace(space_from(tmp_path / folder, text), limits)
        identify(fake_job(tmp_path / "out", space=space))
    written = read_toml(tmp_path / "out" / "search.toml")
    assert written["source"] == str(tmp_path / "a" / "own.toml")
    assert shipped("digits-tiny").source == "digits-tiny"


def test_a_search_of_an_earlier_version_goes_on(tmp_path, capsys):
    space = shipped("digits-tiny")
    evaluation = Evaluation(EvaluationSettings(), EvaluationData(tmp_path), space)
    job = fake_job(tmp_path, space=space, evaluation=evaluation)
    identify(job)
    path = tmp_path / "search.toml"
    text = path.read_text().replace("[evaluation.settings]", "[evaluation.settings]\nsupernet_epochs = 40", 1)
    assert "supernet_epochs" in text
    assert "train_images" in text
    assert "one_based = false\n" in text
    path.write_text(text.replace("train_images", "train_pictures").replace("one_based = false\n", ""))
    identify(job)
    assert "train_pictures is now evaluation.settings.train_images" in capsys.readouterr().err


def test_results_of_the_version_before_are_read(tmp_path):
    """It wrote "told" in rows and in the store, where "tell" is written now."""
    first, whole = (fake_job(tmp_path, trials=trials) for trials in (5, 9))
    search(first, InProcess())
    rows = tmp_path / "results.jsonl"
    rows.write_text(rows.read_text().replace('"tell"', '"told"'))
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as store, store:
        store.execute("UPDATE trial_user_attributes SET key = 'told' WHERE key = 'tell'")
    assert all(trial.is_finished for trial in trials_in(first))
    search(whole, InProcess())
    (new := tmp_path / "new").mkdir()
    search(fake_job(new, trials=9), InProcess())
    assert [row["genome"] for row in trial_rows(tmp_path)] == [row["genome"] for row in trial_rows(new)]
    assert [row["tell"] for row in trial_rows(tmp_path)] == list(range(len(trial_rows(tmp_path))))


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "search.db").write_text("not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(EffkerasError, match=r"no search\.toml"):
        search(fake_job(tmp_path), InProcess())
    (tmp_path / "search.db").rename(tmp_path / "aside")
    search(fake_job(tmp_path, trials=1), InProcess())
    (tmp_path / "aside").rename(tmp_path / "search.db")
    with pytest.raises(EffkerasError, match=r"cannot use .* as the store"):
        search(fake_job(tmp_path, trials=1), InProcess())


def test_a_folder_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("effkeras.search.run._PATIENCE", 0.0)
    with locks.try_lock(tmp_path / "locks" / "search.lock"), pytest.raises(EffkerasError, match="under way"):
        search(fake_job(tmp_path), InProcess())


def test_failures_are_recorded_and_the_search_goes_on(tmp_path):
    evaluation = Fake(crashes=(1,), nans=(2,), memory=(4,))
    job = fake_job(tmp_path, trials=30, seed=5, evaluation=evaluation)
    status = search(job, InProcess())
    assert status.finished == 30
    reasons = {trial.result.reason for trial in trials_in(job) if trial.state == "fail"}
    assert reasons == {"ValueError: no stage can have 1 blocks", "the accuracy is nan", "MemoryError"}
    assert status.failed == sum(t.state == "fail" and t.same_as is None for t in trials_in(job))


def test_a_reward_that_is_not_finite_fails(tmp_path):
    class Infinite(Accuracy):
        def reward(self, accuracy, costs):
            return math.inf if costs["macs"] > 12 else accuracy

    job = fake_job(tmp_path, trials=8, objective=Infinite())
    search(job, InProcess())
    assert {t.state for t in trials_in(job) if sum(t.genome) > 12} == {"fail"}
    assert {t.state for t in trials_in(job) if sum(t.genome) <= 12} == {"complete"}


def test_a_measured_cost_over_its_limit_fails_without_a_training(tmp_path):
    trained = tmp_path / "trained"
    limited = Objective(limits={"macs": 12})
    job = fake_job(tmp_path / "out", trials=12, objective=limited, evaluation=Fake(log=trained))
    search(job, InProcess())
    assert {str(trial.genome) for trial in trials_in(job) if sum(trial.genome) <= 12} == set(
        trained.read_text().splitlines()
    )
    for trial in trials_in(job):
        over = sum(trial.genome) > 12
        assert trial.state == ("fail" if over else "complete")
        assert not over or trial.result.reason == f"macs {sum(trial.genome)} is over the limit of 12"


def test_overhead(tmp_path):
    """Prints what a trial costs beside its evaluation; that figure is a bench's to judge."""
    job = fake_job(tmp_path, trials=60, space=FakeSpace(sizes=(6,) * 20))
    create_store(job)
    ledger = open_ledger(job, Limits(60))
    seconds = []
    begin = time.perf_counter()
    while (task := ledger.take("far/s/a")) is not None:
        ledger.finish(task, Result(0.5, 0.5, {"macs": 1.0}))
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    print(f"overhead per trial of 20 genes: median {statistics.median(seconds) * 1e3:.1f} ms")
    assert len(seconds) == 60


def test_a_long_search_is_read_once(tmp_path):
    """Each look at the log reads what is open and new, not all of it."""
    job = fake_job(tmp_path, trials=30, space=FakeSpace(sizes=(6,) * 9))
    create_store(job)
    ledger = open_ledger(job, Limits(30))
    asked = []
    ledger._log._connection.set_trace_callback(asked.append)
    for _ in range(20):
        ledger.finish(ledger.take("far/s/a"), Result(0.5, 0.5, {"macs": 1.0}))
    reads = [query for query in asked if query.startswith("SELECT t.trial_id")]
    lowest = [int(query.split("t.number >= ")[1].split()[0]) for query in reads]
    assert lowest[-1] >= 19
    assert lowest == sorted(lowest)


def test_a_search_stops_when_most_fail(tmp_path):
    job = fake_job(tmp_path, trials=100, evaluation=Fake(crashes=(0, 1, 2, 3, 4), nans=(5,)))
    said = r"10 of 10 candidates failed, most often \(\dx\) with: ValueError: no stage can have \d blocks;"
    with pytest.raises(MostFailedError, match=said):
        search(job, InProcess())
    assert len(trials_in(job)) == 10
    with pytest.raises(MostFailedError):  # the same again goes on, until most of the new ones have failed
        search(job, InProcess())
    assert len(trials_in(job)) == 20


def test_what_was_tried_is_not_evaluated_again(tmp_path):
    started = tmp_path / "started"
    job = fake_job(tmp_path / "out", trials=40, evaluation=Fake(log=started, crashes=(2,)))
    status = search(job, InProcess())
    lines = started.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 40
    trials = trials_in(job)
    repeats = [trial for trial in trials if trial.same_as is not None]
    assert len(repeats) == status.repeats > 0
    for repeat in repeats:
        assert repeat.genome == trials[repeat.same_as].genome
        assert repeat.result == trials[repeat.same_as].result
    assert [trial.tell for trial in trials] == list(range(len(trials)))  # one worker: told in order


def test_an_exhausted_space_ends_the_search(tmp_path):
    status = search(fake_job(tmp_path, trials=50, space=FakeSpace(sizes=(3, 2))), InProcess())
    assert status.finished == 6
    assert status.ending == "the last 200 proposals had all been tried before"


def test_a_proposal_under_way_elsewhere_waits_for_its_result(tmp_path):
    job = fake_job(tmp_path, trials=2, space=FakeSpace(sizes=(2, 1)))
    create_store(job)
    ledger = open_ledger(job, Limits(2))
    first = ledger.take("far/s/a")
    second = ledger.take("far/s/b")
    assert first.candidate.genome != second.candidate.genome
    waiting = [trial for trial in ledger.trials() if trial.state == "waiting"]
    assert waiting, "with this seed the strategy repeats itself"
    ledger.finish(first, Result(0.5, 0.5, {"macs": 1.0}))
    settled = [trial for trial in ledger.trials() if trial.same_as == first.number]
    assert {trial.result.reward for trial in settled} <= {0.5}
    ledger.finish(second, Result(reason="broken"))
    assert all(trial.is_finished for trial in ledger.trials())
    assert sorted(trial.tell for trial in ledger.trials()) == list(range(len(ledger.trials())))
    replica(job).follow(ledger.trials())


def test_two_replicas_write_one_log(tmp_path):
    """Two ledgers take turns; a third, new one follows their log without contradiction."""
    job = fake_job(tmp_path, trials=30)
    create_store(job)
    ledgers = [open_ledger(job, Limits(30)) for _ in range(2)]
    open_tasks = []
    for turn in range(1000):
        ledger = ledgers[turn % 2]
        task = ledger.take(f"far/s/{turn % 2}")
        if task is not None:
            open_tasks.append((ledger, task))
        if not open_tasks:
            break
        if turn % 3 or task is None:
            which, done = open_tasks.pop(turn % len(open_tasks))
            genome = done.candidate.genome
            which.finish(done, Result(fake_search.value(genome), 0.5, {"macs": 1.0}))
    trials = ledgers[0].trials()
    assert sum(trial.is_candidate for trial in trials) == 30
    replica(job).follow(trials)


@pytest.mark.parametrize(("kind", "cost"), [("accuracy", None), ("pareto", 3.0)])
def test_the_cost_is_told_for_a_front_only(tmp_path, kind, cost):
    """Otherwise NSGA-II would weigh it beside a reward that has weighed it already."""
    tells = []

    class Listening(Climbing):
        def make(self, space, seed):
            return types.SimpleNamespace(ask=lambda: (0, 0, 0, 0), tell=tells.append)

    job = fake_job(tmp_path, strategy=Listening(), objective=Accuracy(kind=kind))
    result = Result(0.5, 0.6, {"macs": 3.0})
    replica(job).follow([Trial(0, 1, (0, 0, 0, 0), 0, "complete", 0, tell=0, result=result)])
    assert tells == [Feedback(0, (0, 0, 0, 0), 0.5, 0.6, cost)]


def test_a_changed_strategy_does_not_go_on(tmp_path):
    job = fake_job(tmp_path, trials=5)
    search(job, InProcess())

    class Other(fake_search.Climber):
        def ask(self):
            return (5, 5, 5, 5)

    class Changed(Climbing):
        def make(self, space, seed):
            return Other(space, seed)

    changed = fake_job(tmp_path, trials=9, strategy=Changed())
    with pytest.raises(EffkerasError, match="now proposes 5-5-5-5 for trial 0"):
        search(changed, InProcess())


def test_a_candidate_is_given_up_after_three_deaths(tmp_path):
    job = fake_job(tmp_path, trials=3)
    create_store(job)
    ledger = open_ledger(job, Limits(3, session="now"))
    first = ledger.take("far/now/a")
    ledger.release_dead_worker("far/now/a")
    for owner in ("far/now/b", "far/now/c"):
        assert ledger.take(owner).candidate == first.candidate
        ledger.release_dead_worker(owner)
    assert ledger.take("far/now/d").candidate != first.candidate
    assert ledger.trials()[0].result.reason == DIED


def test_deaths_of_earlier_runs_do_not_count(tmp_path):
    job = fake_job(tmp_path, trials=3)
    create_store(job)
    for session in range(5):
        ledger = open_ledger(job, Limits(3, session=f"s{session}"))
        ledger.release_dead_worker(f"far/s{session - 1}/a")
        task = ledger.take(f"far/s{session}/a")
        assert task.number == 0
    assert ledger.trials()[0].deaths == 0


def test_a_late_result_of_a_trial_given_away_is_dropped(tmp_path):
    job = fake_job(tmp_path, trials=3)
    create_store(job)
    ledger = open_ledger(job, Limits(3))
    slow = ledger.take("far/s/slow")
    ledger.release_dead_worker("far/s/slow")
    quick = ledger.take("far/s/quick")
    assert quick.number == slow.number
    assert not ledger.finish(slow, Result(0.1, 0.1))
    assert ledger.finish(quick, Result(0.2, 0.2))
    assert not ledger.finish(quick, Result(0.3, 0.3))
    assert ledger.trials()[0].result.reward == 0.2


def test_a_silent_trial_of_another_machine_is_run_again(tmp_path):
    job = fake_job(tmp_path, trials=3)
    create_store(job)
    ledger = open_ledger(job, Limits(3))
    lost = ledger.take("far/s/a")
    assert ledger.take("far/s/b").number == 1  # it was heard of a moment ago
    with sqlite3.connect(tmp_path / "search.db") as connection:
        connection.execute(
            "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-61 seconds') WHERE trial_id = ?",
            (lost.id,),
        )
    connection.close()
    assert ledger.take("far/s/c").number == lost.number


@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_candidates_are_pruned_by_their_reward_and_count_with_the_last(tmp_path, pruner, monkeypatch):
    measured, costs = [], fake_search.FakeEvaluator.costs

    def counted(self, candidate):
        measured.append(candidate.genome)
        return costs(self, candidate)

    monkeypatch.setattr(fake_search.FakeEvaluator, "costs", counted)
    objective = Objective("mnas", "macs", 12.0, exponent=-0.5)
    job = fake_job(tmp_path, trials=15, pruner=pruner, objective=objective, evaluation=Fake(steps=9))
    status = search(job, InProcess())
    assert len(set(measured)) == len(measured) == 15, "costs are measured once"
    assert status.pruned > 2
    assert status.best.state == "complete"
    for trial in study_in(job).trials:
        if trial.state == optuna.trial.TrialState.PRUNED and "same_as" not in trial.user_attrs:
            assert trial.value == trial.intermediate_values[trial.last_step]
            assert trial.last_step in (1, 3, 9)
            assert "macs" in trial.user_attrs
    twin = dataclasses.replace(job, out=tmp_path / "again")
    search(twin, InProcess())
    assert [t.state for t in trials_in(twin)] == [t.state for t in trials_in(job)]


def test_a_front_has_two_values(tmp_path):
    job = fake_job(tmp_path, trials=6, objective=Accuracy(kind="pareto"))
    search(job, InProcess())
    study = study_in(job)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.best_trials
    assert all(trial.values[1] == trial.user_attrs["macs"] for trial in study.trials)
    with pytest.raises(EffkerasError, match="Pareto"):
        search(fake_job(tmp_path, objective=Accuracy(kind="pareto"), pruner="halving"), InProcess())


def test_rows_are_written_once_each(tmp_path):
    job = fake_job(tmp_path, trials=12, evaluation=Fake(crashes=(2,)))
    search(job, InProcess())
    path = tmp_path / "results.jsonl"
    whole = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["tell"] for row in whole] == list(range(len(whole)))
    assert {row["kind"] for row in whole} == {"trial"}
    path.write_text("".join(f"{json.dumps(row)}\n" for row in whole[:5]))  # a kill came before the others
    search(job, InProcess())
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["genome"] for row in again] == [row["genome"] for row in whole]


def test_rows_without_their_store_are_not_mixed_with_new_ones(tmp_path):
    """A store that was deleted began anew, and its trials were written beside the rows of the old one."""
    job = fake_job(tmp_path, trials=3)
    search(job, InProcess())
    kept = (tmp_path / "search.db").read_bytes()
    (tmp_path / "search.db").unlink()
    with pytest.raises(EffkerasError, match=r"rows of 3 trials, but its search\.db is gone; put that back"):
        search(job, InProcess())
    (tmp_path / "search.db").write_bytes(kept)
    assert search(job, InProcess()).finished == 3


def test_rows_that_the_store_does_not_hold_are_refused(tmp_path):
    job = fake_job(tmp_path, trials=3)
    search(job, InProcess())
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for other in ({"trial": 7}, {"genome": "9-9"}):
        row = {**rows[-1], **other}
        (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(EffkerasError, match=r"has a row of trial \d+ that .*search\.db does not have"):
            search(job, InProcess())
    (tmp_path / "results.jsonl").unlink()
    search(job, InProcess())
    again = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["genome"] for row in again] == [row["genome"] for row in rows]


def test_a_search_goes_on_with_the_same_data_only(tmp_path):
    data = Contents(24, 24, "files", "classes", "labels")
    search(fake_job(tmp_path, trials=2, data=data), InProcess())
    search(fake_job(tmp_path, trials=3, data=data), InProcess())
    other = dataclasses.replace(data, images=23)
    with pytest.raises(EffkerasError, match="have changed: train has 23 images, where there were 24; give"):
        search(fake_job(tmp_path, trials=3, data=other), InProcess())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE trial_user_attributes SET value_json = '[1' WHERE key = 'result'",
        "UPDATE trial_user_attributes SET value_json = '7' WHERE key = 'genome'",
        "DELETE FROM trial_user_attributes WHERE key = 'seed'",
    ],
)
def test_a_damaged_trial_is_one_line(damage, tmp_path):
    job = fake_job(tmp_path, trials=2)
    search(job, InProcess())
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as connection, connection:
        connection.execute(damage)
    with pytest.raises(
        EffkerasError, match=r"search\.db is damaged \(.*\); delete it, and the search starts anew"
    ):
        search(job, InProcess())


def test_optuna_dashboard_opens_the_store(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports'
        import optuna_dashboard
    job = fake_job(tmp_path, trials=8, evaluation=Fake(steps=2, crashes=(2, 3)))
    search(job, InProcess())
    app = optuna_dashboard.wsgi(optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/search.db"))
    summaries = get(app, "/api/studies")["study_summaries"]
    assert [summary["study_name"] for summary in summaries] == ["fake, climber, seed 0"]
    detail = get(app, f"/api/studies/{summaries[0]['study_id']}")
    assert len(detail["trials"]) == len(trials_in(job))
    assert {one["state"] for one in detail["trials"]} == {"Complete", "Fail"}
    assert [one["name"] for one in detail["union_search_space"]] == [f"gene{i}" for i in range(4)]


def get(app, path):
    """The JSON that a WSGI app answers."""
    from wsgiref.util import setup_testing_defaults

    environment = {"PATH_INFO": path, "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environment)
    seen = []
    body = b"".join(app(environment, lambda status, headers, error=None: seen.append(status)))
    assert seen[0].startswith("200"), body
    return json.loads(body)
