"""Workers on a Ray cluster of two machines (processes, here), one of which dies."""

from __future__ import annotations

import pytest
from fake_search import Fake, FakeSpace, fake_job, value

from effkeras.errors import EffkerasError
from effkeras.search.job import open_ledger, replica
from effkeras.search.run import search
from effkeras.search.store.ledger import Limits
from effkeras.search.workers.cluster import Cluster

pytestmark = [
    pytest.mark.slow,
    # Ray leaves files and sockets to the garbage collector when it shuts down.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def trials_in(job):
    return open_ledger(job, Limits(job.trials)).trials()


@pytest.fixture
def machines():
    """A cluster of a head and one more machine, one core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    import ray

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_search_outlives_one_of_two_machines(tmp_path, machines):
    cluster, second = machines
    started = tmp_path / "started"
    evaluation = Fake(seconds=0.5, steps=2, log=started)
    job = fake_job(tmp_path / "out", trials=24, space=FakeSpace(sizes=(6,) * 6), evaluation=evaluation)
    killed = []

    def watch(status):
        if status.finished >= 8 and status.running == 2 and not killed:
            killed.append(status.finished)
            cluster.remove_node(second, allow_graceful=False)

    status = search(job, Cluster(cluster.address), watch)
    assert killed
    assert status.finished == 24
    trials = trials_in(job)
    assert all(trial.is_finished for trial in trials)
    for trial in trials:
        assert trial.state == "complete"
        assert trial.result.accuracy == pytest.approx(value(trial.genome))
    assert sum(trial.deaths for trial in trials) == 1, "the dead machine's candidate was not run again"
    assert len({trial.owner for trial in trials if trial.owner}) >= 2
    replica(job).follow(trials)


def test_workers_that_cannot_start_say_why(tmp_path, machines):
    cluster, _ = machines
    job = fake_job(tmp_path, evaluation=Fake(broken="there is no such folder"))
    with pytest.raises(EffkerasError, match="there is no such folder"):
        search(job, Cluster(cluster.address))


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
