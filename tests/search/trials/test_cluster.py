"""Workers on a Ray cluster of two machines (processes, here), one of which dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_search import Fake, FakeSpace, fake_job, value

from effkeras.search.run import search
from effkeras.search.trials.cluster import Cluster
from effkeras.search.trials.job import open_ledger, replica
from effkeras.search.trials.ledger import Limits
from effkeras.support.errors import EffkerasError
from effkeras.support.locks import is_held

pytestmark = [
    pytest.mark.slow,
    # Ray leaves files and sockets to the garbage collector when it shuts down.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def trials_in(job):
    return open_ledger(job, Limits(job.trials)).trials()


@pytest.fixture(scope="module")
def machines():
    """A cluster of a head and one more machine, one core each; the last test kills that."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    import ray

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass
class Killer:
    """Watches a search; kills a machine while both evaluate, and lets the other go on once that is dead.

    Both wait in the evaluations' gate meanwhile, so that the dead machine surely had a candidate.
    """

    kill: Callable[[], None]
    gate: Path
    due: float = 0.0

    def __call__(self, status):
        if status.finished >= 8 and not self.due:
            self.gate.mkdir(exist_ok=True)
            if len(list(self.gate.iterdir())) == 2:
                self.kill()
                self.due = time.monotonic() + 60
        elif self.gate.exists():
            assert time.monotonic() < self.due, "the machine's worker did not die with it"
            if not all(is_held(path) for path in self.gate.iterdir()):
                self.gate.rename(self.gate.with_name("opened"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at"),
        ("ray://head:10001", "--ray auto"),
        ("head", "--ray auto"),
    ],
)
def test_no_cluster_at_the_address(tmp_path, address, said):
    with pytest.raises(EffkerasError, match=said):
        search(fake_job(tmp_path), Cluster(address))


def test_workers_that_cannot_start_say_why(tmp_path, machines):
    cluster, _ = machines
    job = fake_job(tmp_path, evaluation=Fake(broken="there is no such folder"))
    with pytest.raises(EffkerasError, match="there is no such folder"):
        search(job, Cluster(cluster.address))


def test_a_search_outlives_one_of_two_machines(tmp_path, machines):
    cluster, second = machines
    evaluation = Fake(seconds=0.2, steps=2, gate=tmp_path / "gate")
    job = fake_job(tmp_path / "out", trials=24, space=FakeSpace(sizes=(6,) * 6), evaluation=evaluation)
    killer = Killer(lambda: cluster.remove_node(second, allow_graceful=False), evaluation.gate)
    status = search(job, Cluster(cluster.address), killer)
    assert killer.due, "no machine was killed"
    assert status.finished == 24
    trials = trials_in(job)
    assert all(trial.is_finished for trial in trials)
    for trial in trials:
        assert trial.state == "complete"
        assert trial.result.accuracy == pytest.approx(value(trial.genome))
    assert sum(trial.deaths for trial in trials) == 1, "the dead machine's candidate was not run again"
    assert len({trial.owner for trial in trials if trial.owner}) >= 2
    replica(job).follow(trials)
