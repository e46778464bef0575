"""`--devices` and TF_CONFIG are read strictly, and one strategy serves each request."""

from __future__ import annotations

import json

import pytest
from support.one_file import add_module

from effkeras.support.errors import EffkerasError
from effkeras.training.strategies import STRATEGIES, Request, open_strategy, request_of
from effkeras.training.strategies.cluster import VARIABLE, Cluster, cluster_of, is_worker

PAIR = Cluster(("a:1", "b:2"), 1)


@pytest.mark.parametrize(
    ("text", "kind", "numbers"),
    [("all", "all", ()), ("cpu", "cpu", ()), ("gpu:0,1", "gpu", (0, 1)), ("gpu:3", "gpu", (3,))],
)
def test_devices_are_read(text, kind, numbers):
    assert request_of(text) == Request(kind, numbers)


def test_a_tpu_may_have_an_address():
    assert request_of("tpu:grpc://10.0.0.2:8470") == Request("tpu", address="grpc://10.0.0.2:8470")


@pytest.mark.parametrize("text", ["gpus", "gpu:", "gpu:a", "gpu:0,0", "gpu:0,", "all:1", ""])
def test_other_devices_are_refused(text):
    with pytest.raises(EffkerasError, match="--devices"):
        request_of(text)


@pytest.mark.parametrize(
    ("devices", "cluster", "name"),
    [
        (None, None, "single"),
        ("cpu", None, "single"),
        ("gpu:1", None, "single"),
        ("gpu", None, "mirrored"),
        ("gpu:0,1", None, "mirrored"),
        ("cpu:0,1", None, "mirrored"),
        ("all", None, "mirrored"),
        ("tpu", None, "tpu"),
        (None, PAIR, "workers"),
        ("all", PAIR, "workers"),
    ],
)
def test_one_strategy_serves_a_request(devices, cluster, name):
    request = request_of(devices, cluster)
    assert [known for known, kind in STRATEGIES.entries().items() if kind.serves(request)] == [name]


def test_a_tpu_in_a_cluster_has_no_strategy():
    with pytest.raises(EffkerasError, match="no strategy"):
        open_strategy(request_of("tpu", PAIR))


OWN = """
from effkeras.training.strategies import STRATEGIES, Strategy


@STRATEGIES.register("own")
class Own(Strategy):
    replicas = 3

    @classmethod
    def serves(cls, request):
        return request.kind == "tpu" and request.cluster is not None

    def __init__(self, request):
        self.worker = request.cluster.number
"""


def test_a_strategy_is_one_file(tmp_path, monkeypatch):
    add_module(STRATEGIES, "own", OWN, tmp_path, monkeypatch)
    strategy = open_strategy(request_of("tpu", PAIR))
    assert (strategy.replicas, strategy.is_chief) == (3, False)
    assert strategy.from_chief(lambda: 5, str, int) == 5


def config(cluster: object, task: object) -> dict[str, str]:
    return {VARIABLE: json.dumps({"cluster": cluster, "task": task})}


def test_a_cluster_is_read():
    workers = {"worker": ["a:1", "b:2"]}
    assert cluster_of(config(workers, {"type": "worker", "index": 1})) == PAIR
    assert cluster_of({VARIABLE: PAIR.variable()}) == PAIR
    with_chief = {"chief": ["a:1"], "worker": ["b:2"]}
    assert cluster_of(config(with_chief, {"type": "chief", "index": 0})) == Cluster(("a:1", "b:2"), 0)
    assert cluster_of(config(with_chief, {"type": "worker", "index": 0})) == PAIR


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}, {VARIABLE: "{}"}])
def test_no_cluster(environment):
    assert cluster_of(environment) is None


def test_a_cluster_of_one_is_none_but_launches_nothing_more():
    alone = config({"worker": ["a:1"]}, {"type": "worker", "index": 0})
    assert cluster_of(alone) is None
    assert is_worker(alone)
    assert not is_worker({})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({VARIABLE: "{"}, "is not the JSON"),
        ({VARIABLE: "[]"}, "is not the JSON"),
        (config({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": 2}), "no worker 2"),
        (config({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": "x"}), "is not the JSON"),
        (config({"worker": ["a:1"], "ps": ["b:2"]}, {"type": "ps", "index": 0}), "'ps' has nothing to do"),
        (config({"worker": ["a:1"]}, {"type": "evaluator", "index": 0}), "the chief validates"),
    ],
)
def test_a_wrong_cluster_is_refused(environment, said):
    with pytest.raises(EffkerasError, match=said):
        cluster_of(environment)
