"""Progress as plain lines, for logs and pipes: with the time that is left, at growing intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.progress import Progress, Task, TaskID

from effkeras.support.phases import LEFT, active_phases, clock_text

_FIRST, _LONGEST = 10.0, 120.0  # seconds before the first line, and at most between two
_GROWTH = 1.5


class ProgressLines(Progress):
    """A progress display that draws nothing: it prints a line now and then, and at the end of a long task.

    Args:
        show: prints a line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(disable=True, auto_refresh=False, speed_estimate_period=3600)
        self._show = show
        self._begun = False
        self._next: dict[TaskID, float] = {}

    def start(self) -> None:
        """Begins to print."""
        self._begun = True

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Takes in how far a task is, as `rich` does."""
        super().update(task_id, **fields)
        self._look_at(self._tasks[task_id])

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Takes in that a task has come further, as `rich` does."""
        super().advance(task_id, advance)
        self._look_at(self._tasks[task_id])

    def _look_at(self, task: Task) -> None:
        running = active_phases()
        if running is not None and task.total:
            running.saw(task, task.completed / task.total)
        elapsed = task.finished_time if task.finished else task.elapsed
        if not self._begun or elapsed is None or elapsed < _FIRST:
            return
        due = self._next.setdefault(task.id, _FIRST)
        if task.finished:
            if due < float("inf"):
                self._next[task.id] = float("inf")
                self._show(_line(task, elapsed))
        elif elapsed >= due:
            self._next[task.id] = elapsed + min(max(elapsed * (_GROWTH - 1), _FIRST), _LONGEST)
            self._show(_line(task, elapsed))


def _line(task: Task, elapsed: float) -> str:
    """Such as "1/3 measuring on val: 40 of 120, 0:00:20, 0:00:40 left"."""
    running = active_phases()
    count = f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total is not None else "")
    stated = task.fields.get(LEFT)
    alone = task.time_remaining if stated is None else stated
    left = alone if running is None else running.left()
    parts = [f"{running.place} " if running else "", f"{task.description}: {count}, {clock_text(elapsed)}"]
    return "".join(parts) + ("" if left is None or task.finished else f", {clock_text(left)} left")
