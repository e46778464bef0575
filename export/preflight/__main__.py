"""`python -m export.preflight F.tflite --for edgetpu`: predicts which operators a device runs."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from effkeras.support.console import console, facts, result, run_command
from effkeras.support.errors import EffkerasError, printable
from effkeras.support.options import Verb, above_zero, add_json, parser

if TYPE_CHECKING:
    from export.preflight.verdicts import Memory, Preflight, Verdict

FAILED = 1
LONGEST = 160  # characters of a name from the file
Row = tuple[str, str, str, str]


class SecondOpinion(Protocol):
    """The findings of the vendor's own tool for the same file."""

    @property
    def passed(self) -> bool:
        """False when the tool finds that the device does not run the whole file."""

    def lines(self, found: Preflight) -> Iterable[tuple[str, str]]:
        """Names and values for the summary."""

    def to_row(self, found: Preflight) -> dict[str, Any]:
        """The findings as a plain record."""


VERB = Verb("export preflight", "what an Edge TPU or a GPU runs of a .tflite")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0 if the device runs the whole file, 1 if not, 2 for bad input."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(argv)
    _check(chosen)
    from effkeras.litert.runner import read_flatbuffer
    from export.preflight.judgement import check_for

    content = read_flatbuffer(chosen.file)
    try:
        found = check_for(content, chosen.target)
    except EffkerasError as error:
        raise EffkerasError(f"{chosen.file}: {error}") from error
    extra = _second_opinion(found, content, chosen)
    _show(found, extra, chosen)
    return 0 if found.passed and (extra is None or extra.passed) else FAILED


def _check(chosen: argparse.Namespace) -> None:
    if chosen.analyzer and chosen.target != "gpu":
        raise EffkerasError("--analyzer judges for GPUs: use it with --for gpu")
    if chosen.compile is not None and chosen.target != "edgetpu":
        raise EffkerasError("--compile makes a file for the Edge TPU: use it with --for edgetpu")
    if chosen.compile is not None and chosen.compile.suffix != ".tflite":
        raise EffkerasError(f"--compile {chosen.compile}: the file name must end in .tflite")


def _second_opinion(found: Preflight, content: bytes, chosen: argparse.Namespace) -> SecondOpinion | None:
    """The findings of the vendor's own tool, if it is requested or enabled by default."""
    if chosen.analyzer:
        from export.preflight.analyzer import analyzed

        return analyzed(content, chosen.analyzer, chosen.timeout)
    if chosen.target == "edgetpu" and not chosen.no_compiler and not found.is_compiled:
        from export.preflight.compiler import compiled

        return compiled(content, chosen.file.stem, chosen.compile, chosen.timeout)
    return None


def _show(found: Preflight, extra: SecondOpinion | None, chosen: argparse.Namespace) -> None:
    result({"file": str(chosen.file), **found.to_row(), **(extra.to_row(found) if extra else {})})
    show(chosen.file.name, found, extra, every=chosen.ops)


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name,
        "Says which operators of a .tflite an Edge TPU or a GPU runs, which not, and why. "
        "Exit code: 0 it runs all, 1 it does not, 2 bad input.",
    )
    options.add_argument("file", type=Path, metavar="F.tflite")
    options.add_argument(
        "--for",
        dest="target",
        default="edgetpu",
        metavar="DEVICE",
        help="edgetpu or gpu (default: edgetpu)",
    )
    options.add_argument("--ops", action="store_true", help="list every operator, in the order of execution")
    add_json(options)
    options.add_argument(
        "--analyzer",
        nargs="?",
        const=sys.executable,
        metavar="PYTHON",
        help="for gpu: ask TensorFlow's own model analyzer too; PYTHON has TensorFlow 2.17 at most",
    )
    options.add_argument(
        "--compile",
        type=Path,
        metavar="OUT.tflite",
        help="for edgetpu: keep what edgetpu_compiler makes, with the metadata put back",
    )
    options.add_argument(
        "--no-compiler",
        action="store_true",
        help="for edgetpu: do not ask edgetpu_compiler, though it is installed",
    )
    options.add_argument(
        "--timeout",
        type=above_zero,
        default=600,
        metavar="S",
        help="seconds that edgetpu_compiler or the analyzer may take (default: 600)",
    )
    return options


def show(name: str, found: Preflight, extra: SecondOpinion | None = None, *, every: bool = False) -> None:
    """Prints a summary and a table.

    The table groups operators of the same kind and result, or lists every operator if `every`.
    """
    result = "runs all of it" if found.passed else "does not run all of it"
    lines = ((word, printable(value)) for word, value in _lines(found, extra))
    facts(f"{printable(name)}: the {found.table.device.name} {result}", lines)
    _print_table(_one_by_one(found.verdicts) if every else _grouped(found.verdicts))
    _print_sources(found)


def _lines(found: Preflight, extra: SecondOpinion | None) -> Iterator[tuple[str, str]]:
    taken = sum(one.on_device for one in found.verdicts)
    if found.is_compiled:
        yield "compiled", f"already, by the {found.table.device.name}'s compiler"
        yield "on the CPU", f"{len(found.verdicts) - taken} operators that it left there"
        return
    macs = sum(one.macs for one in found.verdicts)
    yield "operators", f"{taken} of {len(found.verdicts)} ({found.op_share:.1%})"
    yield "multiply-adds", f"{found.mac_share:.1%} of {macs / 1e6:,.0f} M"
    yield "partition", _partition(found)
    if found.memory is not None:
        yield "weights", _weights(found.memory)
    if found.doubts:
        yield "in doubt", f"{len(found.doubts)} operators may not map; they count as mapped"
    if extra is not None:
        yield from extra.lines(found)
    yield from (("what helps", advice) for advice in found.advice)
    yield "judged by", f"a table of {found.table.device.judged_by}"


def _partition(found: Preflight) -> str:
    if found.end is None:
        return "contains all operators" if found.passed else "contains no operator"
    at = f"operator {found.end.index}, {_named(found.end.op)} ({_named(found.end.layer)})"
    if found.table.device.partition == "first":
        return f"ends at {at}; nothing that needs it runs on the device"
    return f"the largest of {found.pieces}; the first operator outside is {at}"


def _weights(memory: Memory) -> str:
    whole = f"{memory.weights / 1e6:.1f} MB, and {memory.capacity / 1e6:.1f} MB at most stay on the chip"
    if not memory.streamed:
        return f"{whole}: all do"
    return f"{whole}: {memory.streamed / 1e6:.1f} MB stream in at every run"


def _grouped(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    counts = Counter((one.op, one.status, one.why) for one in verdicts)
    seen = set()
    for one in verdicts:
        key = (one.op, one.status, one.why)
        if key not in seen:
            seen.add(key)
            yield _named(one.op), str(counts[key]), _place(one), _result(one)


def _one_by_one(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    for one in verdicts:
        yield _named(one.op), str(one.index), _named(one.layer), _result(one)


def _place(one: Verdict) -> str:
    return "" if one.status == "maps" else f"{one.index} {_named(one.layer)}"


def _result(one: Verdict) -> str:
    return printable(f"{one.status}: {one.why}") if one.reasons else one.status


def _named(name: str) -> str:
    """A name from the file, made printable and cut to `LONGEST` characters."""
    return printable(name, LONGEST)


def _print_table(rows: Iterable[Row]) -> None:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("operator")
    grid.add_column("", justify="right")
    grid.add_column("(first) at", overflow="fold", max_width=22)
    grid.add_column("result", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console().print(grid)


def _print_sources(found: Preflight) -> None:
    broken = dict.fromkeys(reason.source for one in found.verdicts for reason in one.reasons)
    if broken:
        console().print("Why, by:")
    for key in broken:
        console().print(f"- {found.table.sources[key].title}")


if __name__ == "__main__":
    sys.exit(main())
