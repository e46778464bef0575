"""The cluster of a training: the addresses of its workers, as TensorFlow's variable TF_CONFIG gives them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from effkeras.support.errors import EffkerasError

VARIABLE = "TF_CONFIG"
# Set to the number of the process that launched this one as a worker, with which it ends.
LAUNCHER = "EFFKERAS_LAUNCHER"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The workers, HOST:PORT each with the chief first, and the number of this process among them."""

    workers: tuple[str, ...]
    number: int

    def variable(self) -> str:
        """The value of TF_CONFIG for this process."""
        task = {"type": "worker", "index": self.number}
        return json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})


def is_worker(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a worker of a cluster already, maybe its only one."""
    return bool(environment.get(VARIABLE, "").strip())


def end_with_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Ends this process when the one that launched it is gone; a thread watches it."""
    parent = environment.get(LAUNCHER)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cluster_of(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that TF_CONFIG names; None without one, or if this process is its only worker.

    Workers named "chief" come first. Raises EffkerasError for another form, and for tasks that are neither.
    """
    text = environment.get(VARIABLE, "")
    if not text.strip():
        return None
    try:
        stated = json.loads(text)
        jobs, task = stated.get("cluster") or {}, stated.get("task") or {}
        chiefs, workers = (tuple(map(str, jobs.get(name, ()))) for name in ("chief", "worker"))
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise EffkerasError(f"{VARIABLE} is not the JSON that TensorFlow documents ({error})") from error
    if kind not in ("chief", "worker"):
        raise EffkerasError(
            f"{VARIABLE}: a task of the type {kind!r} has nothing to do: the chief validates, and there are "
            "no parameter servers; start chief and workers only"
        )
    own = chiefs if kind == "chief" else workers
    if not 0 <= index < max(len(own), 1) or (jobs and not own):
        raise EffkerasError(f"{VARIABLE}: there is no {kind} {index} in its cluster")
    everyone = chiefs + workers
    if len(everyone) < 2:
        return None
    return Cluster(everyone, index if kind == "chief" else len(chiefs) + index)
