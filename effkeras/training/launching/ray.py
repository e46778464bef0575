"""`--ray ADDRESS --workers N`: workers on a Ray cluster, all started anew when one dies.

Each worker is an actor that runs the command as a process of its machine. The chief runs where the command
was given, and has the run folder there. The others need the data at the same path.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effkeras.support.console import note
from effkeras.support.ending import BAD_INPUT
from effkeras.support.errors import EffkerasError
from effkeras.support.ray_cluster import all_machines, answer, connect, last_line, load_ray, this_machine
from effkeras.training.launching.worker import Launch, free_ports, how_it_ended, tail, variables
from effkeras.training.launching.worker import last_line as last_line_of
from effkeras.training.run import Run
from effkeras.training.strategies.cluster import LAUNCHER, Cluster

_PAUSE = 0.5  # seconds between two looks at the workers
_ROOM = 120.0  # seconds to wait until the cluster has room for all workers
# Ray limits a worker to one thread; with it TensorFlow's collective operators wait for each other for ever.
_THREADS = "OMP_NUM_THREADS"
_SETTLING = 5.0  # seconds until a cluster has noticed that a machine died
# Deaths with no checkpoint written in between, at which the training is given up.
_MOST = 3


class RemoteWorker:
    """An actor on the cluster that runs one worker."""

    def address(self) -> str:
        """HOST:PORT for this worker: its machine's address in the cluster and a free port."""
        ray = load_ray()
        return f"{ray.util.get_node_ip_address()}:{free_ports(1)[0]}"

    def run(self, words: tuple[str, ...], cluster: Cluster, folder: str, log: str) -> tuple[int, str]:
        """The exit code of the command `effkeras *words` and the end of its output, which goes to `log` too.

        An empty `log` is for a machine that has no run folder.
        """
        own = {name: value for name, value in os.environ.items() if name != _THREADS}
        with tempfile.NamedTemporaryFile(suffix=".log") as aside:
            path = Path(log or aside.name)
            with path.open("ab") as output:
                done = subprocess.run(
                    [sys.executable, "-m", "effkeras", *words],
                    cwd=folder if Path(folder).is_dir() else None,
                    env=own | variables(cluster) | {LAUNCHER: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            return done.returncode, tail(path)[-2000:]


@dataclass(slots=True)
class RayTraining:
    """A training with `count` workers on the cluster at `address`."""

    address: str
    count: int
    training: Launch
    _actors: list[Any] = field(default_factory=list, init=False)
    _shown: int = field(default=0, init=False)

    def run(self) -> int:
        """Runs the training to its end and returns the chief's exit code.

        Raises:
            EffkerasError: no cluster, no room on it, bad input, or workers that keep dying.
        """
        connect(self.address)
        try:
            return self._run()
        finally:
            self._stop()
            load_ray().shutdown()

    def _run(self) -> int:
        deaths, before = 0, self._written()
        while True:
            died = self._attempt()
            if isinstance(died, int):
                return died
            deaths = deaths + 1 if self._written() == before else 1
            before = self._written()
            if deaths >= _MOST:
                raise EffkerasError(f"the workers keep dying: {died}; see {self.training.log(0)}")
            note(f"{died}; all workers start again, from the last checkpoint")

    def _attempt(self) -> int | str:
        """Starts all workers and waits: the exit code of a training that is over, or how a worker died."""
        ray = load_ray()
        places = self._start()
        chief_log = self.training.log(0)
        self._shown = chief_log.stat().st_size if chief_log.exists() else 0
        tasks = {}
        for number, actor in enumerate(self._actors):
            log = str(chief_log.resolve()) if number == 0 else ""
            cluster = Cluster(places, number)
            tasks[actor.run.remote(self.training.words, cluster, str(Path.cwd()), log)] = number
        try:
            while tasks:
                done, _ = ray.wait(list(tasks), num_returns=1, timeout=_PAUSE)
                self._show()
                for task in done:
                    number = tasks.pop(task)
                    if died := self._died(task, f"worker {number} at {places[number]}"):
                        return died
            return 0
        finally:
            self._show()
            self._stop()

    def _start(self) -> tuple[str, ...]:
        """Starts all workers; their addresses. Again, where one is given to a machine that has just died."""
        from ray.exceptions import RayError

        for _ in range(_MOST):
            self._create()
            try:
                return self._places()
            except RayError as error:
                said = last_line(error)
                self._stop()
                time.sleep(_SETTLING)
        raise EffkerasError(f"the workers cannot start: {said}")

    def _create(self) -> None:
        ray = load_ray()
        kind = ray.remote(num_cpus=1, max_restarts=0)(RemoteWorker)
        if ray.cluster_resources().get("GPU", 0) >= self.count:
            kind = kind.options(num_gpus=1)
        chief = kind.options(scheduling_strategy=this_machine()).remote()
        others = itertools.islice(itertools.cycle(all_machines()), 1, self.count)
        self._actors = [chief, *(kind.options(scheduling_strategy=place).remote() for place in others)]

    def _places(self) -> tuple[str, ...]:
        from ray.exceptions import GetTimeoutError

        asked = [actor.address.remote() for actor in self._actors]
        try:
            return tuple(load_ray().get(asked, timeout=_ROOM))
        except GetTimeoutError as error:
            raise EffkerasError(
                f"the Ray cluster has no room for {self.count} workers with a core each; give fewer --workers"
            ) from error

    def _died(self, task: Any, who: str) -> str:
        """How a worker died, "" if it ended well. Raises EffkerasError for what would happen again."""
        from ray.exceptions import RayError, RayTaskError

        try:
            code, output = answer(task)
        except RayTaskError as error:
            raise EffkerasError(f"{who} cannot work: {last_line(error)}") from error
        except RayError:
            return f"{who} was lost"
        if code == BAD_INPUT:
            raise EffkerasError(last_line_of(output))
        return f"{who} {how_it_ended(code)}" if code else ""

    def _stop(self) -> None:
        ray = load_ray()
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _written(self) -> float:
        """The time of the last checkpoint."""
        path = Run(self.training.out).checkpoint
        return path.stat().st_mtime if path.is_file() else 0.0

    def _show(self) -> None:
        """Prints what the chief has written since the last look."""
        text = tail(self.training.log(0), self._shown)
        self._shown += len(text.encode())
        sys.stderr.write(text)
        sys.stderr.flush()
