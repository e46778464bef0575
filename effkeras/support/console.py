"""What commands print: progress bars with time left, tables, notes, one-line errors.

`quiet` keeps native libraries off the terminal: they write to the file descriptors of the process from C++,
which Python's own redirection does not reach.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Literal, TypeVar

from effkeras.support.ending import ended
from effkeras.support.errors import EffkerasError
from effkeras.support.phases import Phases, active_phases
from effkeras.support.texts import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn


Item = TypeVar("Item")
_noted: set[str] = set()


def run_command(command: Callable[[], int | None], *, resumes: bool = False) -> int:
    """Runs a command's body; its errors become one line on stderr and an exit code, see `support.ending`.

    `resumes` is True for a command that continues interrupted work when it is run again.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _noted.clear()
    return ended(command, resumes=resumes)


def note(text: str) -> None:
    """Prints a text on stderr for the user, without control codes; stdout stays free for results."""
    print(printable_lines(text), file=sys.stderr)


def note_once(text: str) -> None:
    """Prints a note at most once per command."""
    if text not in _noted:
        _noted.add(text)
        note(text)


def console() -> Console:
    """The console for results. It prints text literally: a "[/x]" in a name is not markup.

    `table` and `facts` take control codes out of their texts; others go through `printable_lines` first.
    """
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, markup=False, emoji=False)


def progress(left: ProgressColumn | None = None) -> Progress:
    """A progress display with elapsed time and time left, on stderr.

    `left` is the column that shows the time left. The default is rich's estimate from the last hour, which
    needs at least two finished items; inside `effkeras.support.phases` it is that over all phases, and the
    phase stands before the description.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    running = active_phases()
    if running is not None:
        left = left or _left_of_all(running)
    place = "" if running is None else f"{running.place} "
    return Progress(
        TextColumn(place + "{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        left or TimeRemainingColumn(),
        console=Console(stderr=True),
        speed_estimate_period=3600,  # rich's default of 30 s is too short for models that take minutes each
        # Otherwise text printed meanwhile would go to the terminal even if stdout is a file.
        redirect_stdout=sys.stdout.isatty(),
    )


def _left_of_all(running: Phases) -> ProgressColumn:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class LeftOfAll(ProgressColumn):
        """The time left over all phases of a command."""

        def render(self, task: Task) -> Text:
            if task.total:
                running.saw(task, task.completed / task.total)
            seconds = running.left()
            if seconds is None:
                return Text("-:--:--", style="progress.remaining")
            minutes, rest = divmod(round(seconds), 60)
            hours, minutes = divmod(minutes, 60)
            return Text(f"{hours}:{minutes:02}:{rest:02}", style="progress.remaining")

    return LeftOfAll()


def track(items: Iterable[Item], what: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yields `items` and shows a progress bar named `what`."""
    with progress() as bar:
        yield from bar.track(items, total=total, description=printable(what))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, fold_figures: bool = True
) -> None:
    """Prints a table; the first column holds text, the others figures.

    Where the table is too wide, all columns are folded; without `fold_figures` only the first is.
    """
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        is_whole = position > 0 and not fold_figures
        side: Literal["left", "right"] = "right" if position else "left"
        grid.add_column(printable_lines(column), justify=side, overflow="fold", no_wrap=is_whole)
    for row in rows:
        grid.add_row(*map(printable_lines, row))
    if title:  # above the grid, not wrapped to its width
        console().print(printable_lines(title))
    console().print(grid)


def facts(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and their values side by side."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*map(printable_lines, row))
    console().print(printable_lines(title), style="bold")
    console().print(grid)


_CHANNELS = (1, 2)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Captures everything that Python or native code writes to stdout and stderr.

    What effkeras itself logs as a warning is shown afterwards. When the body fails with anything but an
    EffkerasError, the captured text goes to stderr, because it then explains the failure. The redirection
    holds for all threads of the process.
    """
    with tempfile.TemporaryFile() as held:
        try:
            with _kept_warnings() as warnings, _redirected(held):
                yield
        except EffkerasError:
            raise
        except Exception:
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
    for text in warnings:
        note(text)


@contextlib.contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """The warnings that effkeras logs meanwhile."""
    kept: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    keeper, logger = Keeper(logging.WARNING), logging.getLogger("effkeras")
    logger.addHandler(keeper)
    try:
        yield kept
    finally:
        logger.removeHandler(keeper)


@contextlib.contextmanager
def _redirected(target: IO[bytes]) -> Iterator[None]:
    _flush()
    saved = [os.dup(channel) for channel in _CHANNELS]
    try:
        for channel in _CHANNELS:
            os.dup2(target.fileno(), channel)
        # In notebooks and under pytest, Python's streams do not write to these descriptors.
        text = os.fdopen(os.dup(target.fileno()), "w", encoding="utf-8")
        with text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield
    finally:
        for channel, original in zip(_CHANNELS, saved, strict=True):
            os.dup2(original, channel)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError):
            stream.flush()
