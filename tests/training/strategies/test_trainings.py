"""Trainings on several devices and processes are those of one, and go on after one of them died.

Real processes on this machine, started by the command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.tiny import tiny_classifier, tiny_detector

from effkeras.support import results
from effkeras.training.launching.worker import free_ports
from effkeras.training.strategies.cluster import VARIABLE, Cluster

pytestmark = pytest.mark.nightly("devices")

STEPS = 20
# Without what draws random numbers, which differ by device.
EXACT = ["--dropout", "0", "--survival", "1", "--drop-block", "1"]


@dataclass(frozen=True)
class Training:
    """A command `effkeras train` on a small model."""

    words: tuple[str, ...]
    folder: Path

    def start(
        self, out: Path, *more: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, sys.path))
        return subprocess.Popen(
            [sys.executable, "-m", "effkeras", "train", *self.words, "--out", str(out), *more],
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, out: Path, *more: str, code: int = 0, **options: dict[str, str]) -> str:
        """Runs it to its end; its stderr."""
        process = self.start(out, *more, **options)
        _, said = process.communicate(timeout=900)
        assert process.returncode == code, said[-4000:]
        return said


def losses(run: Path) -> list[float]:
    rows = results.read(run / "results.jsonl")
    return [row["loss"] for row in rows if row["kind"] == "epoch"]


def weights(run: Path) -> list[np.ndarray]:
    """All variables of the training: weights, statistics, moments, averages."""
    with np.load(run / "checkpoint.npz") as stored:
        return [stored[name] for name in sorted(stored.files) if name != "progress"]


def progress(run: Path) -> int:
    if not (run / "checkpoint.npz").is_file():
        return 0
    with np.load(run / "checkpoint.npz") as stored:
        return int(json.loads(bytes(stored["progress"]))["step"])


@pytest.fixture
def hosts(tmp_path):
    """A file of two workers on this machine."""
    path = tmp_path / "hosts.txt"
    path.write_text("127.0.0.1\n127.0.0.1\n")
    return str(path)


@pytest.fixture
def classifier(digit_classes, tmp_path):
    spec = tiny_classifier()
    (tmp_path / "tiny.toml").write_text(spec.to_toml())
    # At 3e-4 the loss of step 20 differs by 3e-4: roundings grow with each update.
    return _training(tmp_path, digit_classes, ["--learning-rate", "1e-4", *EXACT])


@pytest.fixture
def detector(digits, tmp_path):
    (tmp_path / "tiny.toml").write_text(tiny_detector().to_toml())
    # Its smallest maps are 2 x 2: at 3e-4, other kernels of the same device change its losses by 1e-3.
    return _training(tmp_path, digits, ["--learning-rate", "1e-5", "--anchors", "own"])


def _training(folder: Path, data: Path, more: list[str]) -> Training:
    own = ["--batch", "8", "--augment", "light", *more]
    return Training((str(folder / "tiny.toml"), "--data", str(data), *own), folder)


def _alike(one: Path, other: Path) -> None:
    assert len(losses(one)) >= 8
    np.testing.assert_allclose(losses(other), losses(one), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_two_devices_show_the_loss_of_one(kind, request, tmp_path):
    training = request.getfixturevalue(kind)
    training.run(tmp_path / "one", "--steps", str(STEPS))
    training.run(tmp_path / "two", "--steps", str(STEPS), "--devices", "cpu:0,1")
    _alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_two_workers_show_the_loss_of_one(kind, request, hosts, tmp_path):
    training = request.getfixturevalue(kind)
    training.run(tmp_path / "one", "--steps", str(STEPS))
    training.run(tmp_path / "two", "--steps", str(STEPS), "--workers", hosts)
    _alike(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "model.keras").is_file()


def test_two_devices_resume_exactly(classifier, tmp_path):
    two = ("--devices", "cpu:0,1", "--accumulate", "2")
    classifier.run(tmp_path / "whole", "--steps", "10", *two)
    process = classifier.start(tmp_path / "parts", "--steps", "10", *two)
    _wait(lambda: progress(tmp_path / "parts") >= 3, process)
    process.kill()
    process.communicate()
    assert progress(tmp_path / "parts") < 10
    assert "goes on after step" in classifier.run(tmp_path / "parts", "--steps", "10", *two)
    for ours, theirs in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_killed_worker_ends_the_training_which_then_goes_on(classifier, hosts, tmp_path):
    """To the same weights as without; what is said is one line."""
    steps = ("--steps", "60", "--workers", hosts)
    classifier.run(tmp_path / "whole", *steps)
    process = classifier.start(tmp_path / "run", *steps)
    _wait(lambda: progress(tmp_path / "run") >= 6, process)
    os.kill(_workers_of(process.pid)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "worker 1 at 127.0.0.1:" in errors[0]
    assert "was killed by SIGKILL" in errors[0]
    assert 6 <= progress(tmp_path / "run") < 60
    assert "goes on after step" in classifier.run(tmp_path / "run", *steps)
    for ours, theirs in zip(weights(tmp_path / "run"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_without_a_launcher_the_others_say_that_one_is_gone(classifier, tmp_path):
    """As under a scheduler that sets TF_CONFIG; each process is a machine's command."""
    places = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    chief, other = (
        classifier.start(
            tmp_path / "run", "--steps", "2000", environment={VARIABLE: Cluster(places, number).variable()}
        )
        for number in range(2)
    )
    _wait(lambda: progress(tmp_path / "run") >= 2, chief)
    other.kill()
    other.communicate()
    _, said = chief.communicate(timeout=300)
    assert chief.returncode == 2, said[-3000:]
    assert "another worker of this training is gone" in said


def test_other_data_on_another_machine_are_refused(classifier, tmp_path):
    places = tuple(f"127.0.0.1:{port}" for port in free_ports(2))
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", classifier.words[2], str(copy)], check=True)
    next(iter(sorted(copy.glob("train/*/*")))).unlink()
    other = Training((classifier.words[0], "--data", str(copy), *classifier.words[3:]), tmp_path)
    processes = [
        each.start(
            tmp_path / "run", "--steps", "4", environment={VARIABLE: Cluster(places, number).variable()}
        )
        for number, each in enumerate((classifier, other))
    ]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 2
        assert "worker 1 reads other images" in said


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_ray_starts_the_workers_again_when_a_machine_dies(classifier, tmp_path):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        second = cluster.add_node(num_cpus=2)
        steps = ("--steps", "60", "--ray", cluster.address, "--workers", "2")
        classifier.run(tmp_path / "whole", *steps)
        process = classifier.start(tmp_path / "run", *steps)
        _wait(lambda: progress(tmp_path / "run") >= 6, process)
        cluster.remove_node(second, allow_graceful=False)
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said[-4000:]
        assert "all workers start again, from the last checkpoint" in said
        assert "goes on after step" in said
    finally:
        cluster.shutdown()
    for ours, theirs in zip(weights(tmp_path / "run"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def _wait(is_there: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not is_there():
        assert process.poll() is None, process.communicate()[1][-4000:]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def _workers_of(launcher: int) -> list[int]:
    """The processes that a launcher has started, in that order."""
    done = subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=True)
    return sorted(map(int, done.stdout.split()))
