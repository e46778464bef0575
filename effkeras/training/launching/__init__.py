"""Starts the workers of one training, on machines of a list or on a Ray cluster, and watches them.

Each worker is the same command with TF_CONFIG set; `effkeras.training.strategies.workers` is what it does.
"""

from __future__ import annotations

from pathlib import Path

from effkeras.support.errors import EffkerasError
from effkeras.training.launching.worker import Launch


def start_workers(training: Launch, workers: str | None, ray: str | None) -> int:
    """Runs a training on several machines, and returns the exit code.

    `workers` is a file of hosts, or with `ray`, the address of a cluster, their number. Raises EffkerasError
    for anything else, and if a worker dies for good.
    """
    if ray is None:
        from effkeras.training.launching.hosts import launch, read_hosts

        return launch(read_hosts(Path(workers or "")), training)
    if workers is None or not workers.isdecimal() or int(workers) == 0:
        raise EffkerasError(f"--ray takes the number of workers: --workers 2, not {workers or 'none'}")
    from effkeras.training.launching.ray import RayTraining

    return RayTraining(ray, int(workers), training).run()
