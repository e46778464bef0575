"""What commands print: progress bars with time left, tables, notes, one-line errors.

Results go to stdout, all else to stderr. The options -q and --json, which `effkeras.support.options` adds,
change what is printed here, and nowhere else: `show_only`.

`quiet` keeps native libraries off the terminal: they write to the file descriptors of the process from C++,
which Python's own redirection does not reach. A command loads TensorFlow inside it, whoever imports it first.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import math
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from effkeras.support.ending import ended
from effkeras.support.errors import EffkerasError, printable, printable_lines
from effkeras.support.phases import LEFT, Phases, active_phases, clock_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table


Item = TypeVar("Item")
JsonResult = Mapping[str, Any] | Sequence[Any]
_noted: set[str] = set()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command prints: with `is_quiet` no notes nor progress, with `is_json` its result as JSON."""

    is_quiet: bool = False
    is_json: bool = False


_EVERYTHING = Shown()
_shown: contextvars.ContextVar[Shown] = contextvars.ContextVar("shown", default=_EVERYTHING)


def run_command(command: Callable[[], int | None], *, resumes: bool = False) -> int:
    """Runs a command's body; its errors become one line on stderr and an exit code, see `support.ending`.

    `resumes` is True for a command that continues interrupted work when it is run again.
    """
    _silence_tensorflow()
    _noted.clear()
    before = _shown.set(_EVERYTHING)
    try:
        return ended(command, resumes=resumes)
    finally:
        _shown.reset(before)


def _silence_tensorflow() -> None:
    """Keeps TensorFlow's messages off the terminal, wherever a command loads it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not any(isinstance(one, _QuietImport) for one in sys.meta_path):
        sys.meta_path.insert(0, _QuietImport())


class _QuietImport(MetaPathFinder):
    """Imports TensorFlow quietly: while it loads, its libraries heed no setting yet."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of TensorFlow, with a loader that prints nothing; None for other modules."""
        if name != "tensorflow":
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.loader is not None:
            setattr(found.loader, "exec_module", _quietly(found.loader.exec_module))  # noqa: B010
        return found


def _quietly(load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def loaded(module: ModuleType) -> None:
        with quiet():
            load(module)

    return loaded


def show_only(shown: Shown) -> None:
    """From now on, the command that runs prints what is `shown` only."""
    _shown.set(shown)


def note(text: str) -> None:
    """Prints a text on stderr for the user, without control codes, unless -q is given."""
    if not is_quiet():
        warn(text)


def warn(text: str) -> None:
    """Prints a text on stderr that the user must see, with -q too."""
    print(printable_lines(text), file=sys.stderr)


def hint(command: str, what: str = "next") -> None:
    """Prints a command, to be run as it is printed; `what` says what it does."""
    note(_hint(command, what))


def _hint(command: str, what: str) -> str:
    return f"{what}: {command}"


def say(text: str) -> None:
    """Prints a line of the result, without control codes, unless the result is JSON."""
    if not _shown.get().is_json:
        print(printable_lines(text))


def result(record: JsonResult | Callable[[], JsonResult]) -> None:
    """Prints the whole result of a command as JSON, if that is what --json asks for.

    A function makes the result only then. NaN and infinities, which JSON lacks, become null.
    """
    if _shown.get().is_json:
        print(json.dumps(_finite(record() if callable(record) else record), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def note_once(text: str) -> None:
    """Prints a text of `warn` at most once per command; what is left out of data, above all."""
    if text not in _noted:
        _noted.add(text)
        warn(text)


def is_quiet() -> bool:
    """Whether -q was given."""
    return _shown.get().is_quiet


def console() -> Console:
    """The console for results, silent if they are JSON.

    It prints text literally: a "[/x]" in a name is not markup.
    `table` and `facts` take control codes out of their texts; others go through `printable_lines` first.
    """
    from rich.console import Console

    is_quiet = _shown.get().is_json
    return Console(highlight=False, soft_wrap=False, markup=False, emoji=False, quiet=is_quiet)


def progress(left: ProgressColumn | None = None) -> Progress:
    """A progress display with elapsed time and time left, on stderr; without a terminal plain lines.

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
    )

    screen = Console(stderr=True)
    if not screen.is_terminal and not is_quiet():
        from effkeras.support.progress_lines import ProgressLines

        return ProgressLines(note)
    running = active_phases()
    if running is not None:
        left = left or _left_of_all(running)
    place = "" if running is None else f"{running.place} "
    shown: list[ProgressColumn] = [TextColumn(place + "{task.description}", markup=False)]
    if screen.width >= _WIDE:
        shown += [BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left")]
    else:
        shown += [MofNCompleteColumn()]
    return Progress(
        *shown,
        left or _left_of_one(),
        console=screen,
        disable=is_quiet(),
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
            return Text(clock_text(running.left()), style="progress.remaining")

    return LeftOfAll()


def _left_of_one() -> ProgressColumn:
    from rich.progress import Task, TimeRemainingColumn
    from rich.text import Text

    class LeftOfOne(TimeRemainingColumn):
        """The time left of a task: what it states, else rich's estimate."""

        def render(self, task: Task) -> Text:
            if task.fields.get(LEFT) is not None and not task.finished:
                return Text(clock_text(task.fields[LEFT]), style="progress.remaining")
            return super().render(task)

    return LeftOfOne()


def track(items: Iterable[Item], what: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yields `items` and shows a progress bar named `what`."""
    with progress() as bar:
        yield from bar.track(items, total=total, description=printable(what))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, fold_figures: bool = True
) -> None:
    """Prints a table; the first column holds text, the others figures.

    Where the table is too wide, all columns are folded; without `fold_figures` only the first is. Where that
    is too wide too, each row is printed as lines of names and values.
    """
    from rich.padding import Padding

    screen = console()
    lines = [[printable_lines(cell) for cell in row] for row in (columns, *rows)]
    for line in printable_lines(title).splitlines():  # above the grid, not wrapped to its width
        screen.print(_in_words(line, screen.width), soft_wrap=True)
    if _least_width(lines, fold_figures=fold_figures) <= screen.width:
        screen.print(
            _grid(_folded(lines, screen.width, fold_figures=fold_figures), fold_figures=fold_figures)
        )
        return
    names, *others = lines
    for first, *figures in others:
        screen.print(first, style="bold")
        screen.print(Padding(_pairs(zip(names[1:], figures, strict=True)), (0, 0, 0, 2)))


def _grid(lines: Sequence[Sequence[str]], *, fold_figures: bool) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(lines[0]):
        is_whole = position > 0 and not fold_figures
        side: Literal["left", "right"] = "right" if position else "left"
        grid.add_column(column, justify=side, overflow="fold", no_wrap=is_whole)
    for row in lines[1:]:
        grid.add_row(*row)
    return grid


def _in_words(line: str, width: int) -> str:
    """A line broken between words only: paths stay whole, however long."""
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def _folded(lines: list[list[str]], width: int, *, fold_figures: bool) -> list[list[str]]:
    """The lines with names broken behind hyphens rather than within words, where figures are not folded."""
    from rich.cells import cell_len

    if fold_figures:
        return lines
    figures = sum(max(map(cell_len, column)) for column in list(zip(*lines, strict=True))[1:])
    room = max(_LEAST_NAME, width - figures - 3 * (len(lines[0]) - 1) - 2)
    return [["\n".join(textwrap.wrap(name, room)) or name, *row] for name, *row in lines]


def _least_width(lines: Sequence[Sequence[str]], *, fold_figures: bool) -> int:
    """The columns of the screen that a table needs to be read: no figure is cut, and no name to pieces."""
    from rich.cells import cell_len

    def least(position: int, texts: Sequence[str]) -> int:
        is_whole = position > 0 and not fold_figures
        words = texts if is_whole else [word for text in texts for word in text.split()]
        longest = max(map(cell_len, words), default=0)
        return longest if position else min(longest, _LEAST_NAME)

    widths = [least(position, texts) for position, texts in enumerate(zip(*lines, strict=True))]
    return sum(widths) + 3 * (len(widths) - 1)


def facts(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and their values side by side."""
    console().print(printable_lines(title), style="bold", soft_wrap=True)  # paths stay whole
    console().print(_pairs([(printable_lines(name), printable_lines(value)) for name, value in rows]))


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


_WIDE = 72  # columns of the screen that a progress bar with all its figures needs
_LEAST_NAME = 12  # columns of the screen for the names of rows
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
        warn(text)


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
