"""`effkeras search table SPACE --data DIR --out FILE`: times all blocks of a space's networks."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.search.options import classes_in
from effkeras.support.backend import need_tensorflow
from effkeras.support.console import facts, hint, note, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, above_zero, add_data, parser

if TYPE_CHECKING:
    from effkeras.definitions.definition import ModelSpec
    from effkeras.search.evaluation.settings import ArtifactSettings
    from effkeras.search.spaces.reading import ModelSpace
    from effkeras.support.measurements import BlockTable

# The number of networks for the range of predicted latencies.
_SHOWN = 100
# The seed of the networks measured as a whole; they differ from those of --networks.
_CHECK = 1


VERB = Verb("search table", "time the blocks of a space, for `--cost table:FILE`")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a table and compares it with the latency of whole networks."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    need_tensorflow("a table of costs")
    _check(chosen)
    from effkeras.search.evaluation.settings import ArtifactSettings
    from effkeras.search.spaces.reading import read_space
    from effkeras.support.console import quiet

    space = read_space(chosen.space)
    _check_base(space.name, space.base)
    classes = classes_in(chosen, space)
    specs = list(map(classes.given_to, _covering(chosen, space)))
    note(f"{_made_of(chosen, len(specs))} of {space.name}; loading TensorFlow")
    with quiet():
        from effkeras.search.evaluation.artifacts import write_table
    settings = ArtifactSettings(chosen.precision, chosen.threads, chosen.runs)
    table = write_table(chosen.out, specs, settings, space.name)
    whole = list(map(classes.given_to, _whole(chosen, space)))
    middle = _show(table, whole[:_SHOWN], chosen)
    if chosen.check:
        _compare(table, whole[: chosen.check], settings)
    hint(_next(chosen, middle))
    if chosen.threads != 1:
        note(f"give it a --config with [artifact] threads = {chosen.threads}, too")


def _covering(chosen: argparse.Namespace, space: ModelSpace) -> list[ModelSpec]:
    """Networks that together contain all blocks for the table."""
    from effkeras.search.evaluation.block_tables import draw_specs

    if chosen.networks:
        return draw_specs(space, space.spec, chosen.networks)
    return list(map(space.spec, space.covering()))


def _whole(chosen: argparse.Namespace, space: ModelSpace) -> list[ModelSpec]:
    """Different networks whose blocks are all in the table, to compare sums with measurements."""
    from effkeras.search.evaluation.block_tables import draw_specs

    if chosen.networks:
        drawn = _covering(chosen, space)
    else:
        drawn = draw_specs(space, space.spec, max(_SHOWN, chosen.check), _CHECK)
    return list({spec.name: spec for spec in drawn}.values())


def _check(chosen: argparse.Namespace) -> None:
    if chosen.check == 1:
        raise EffkerasError("--check compares an order: give 2 networks or more, or 0 for none")
    if chosen.out.suffix != ".toml":
        raise EffkerasError(f"--out {chosen.out} must end in .toml, which a table is written as")


def _check_base(space: str, base: ModelSpec) -> None:
    from effkeras.search.evaluation.block_tables import is_of_blocks

    if not is_of_blocks(base):
        raise EffkerasError(
            f"{space} has no classifiers of MBConv blocks, whose latencies a table adds up; "
            "search it with --cost latency_ms"
        )


def _made_of(chosen: argparse.Namespace, count: int) -> str:
    if chosen.networks:
        return f"blocks of {count} networks, drawn at random,"
    return f"all blocks, from {count} networks"


def _show(table: BlockTable, whole: list[ModelSpec], chosen: argparse.Namespace) -> float:
    """Prints what the table holds; returns the median of the networks' latencies in milliseconds."""
    from effkeras.search.evaluation.block_tables import predicted_ms

    sums = sorted(predicted_ms(spec, table, chosen.threads) for spec in whole)
    threads = f"{chosen.threads} thread{'' if chosen.threads == 1 else 's'}"
    rows = [
        ("blocks", f"{len(table.blocks)}, {chosen.precision}, {threads}, {table.runs} runs"),
        ("of", "the drawn networks only" if chosen.networks else "every network of the space"),
        ("a network", f"{sums[0]:.3g} to {sums[-1]:.3g} ms, the sums of {len(sums)} drawn at random"),
    ]
    facts(f"{chosen.out}: latencies of blocks of {table.model}", rows)
    return sums[len(sums) // 2]


def _compare(table: BlockTable, whole: list[ModelSpec], settings: ArtifactSettings) -> None:
    from effkeras.search.evaluation.artifacts import check_table

    found = check_table(table, whole, settings)
    order = "no order, as all are alike" if math.isnan(found.kendall) else f"{found.kendall:.2f}"
    rows = [
        ("mean error", f"{found.error:.1%} of the measured latency"),
        ("bias", f"sums are {found.bias:.2f} times what is measured (median); an order does not suffer"),
        ("Kendall's tau", f"{order} (1: the measured order, 0: chance)"),
    ]
    facts(f"compared with the measured latency of {len(whole)} whole networks", rows)


def _next(chosen: argparse.Namespace, target: float) -> str:
    table = ["--cost", f"table:{chosen.out}", "--target", f"{target:.3g}"]
    words = ["effkeras", "search", str(chosen.space), "--data", str(chosen.data), *table]
    return shlex.join([*words, "--trials", "100", "--out", f"runs/{chosen.out.stem}"])


def _parser() -> argparse.ArgumentParser:
    options = parser(
        VERB.name,
        "Times every block that networks of a space are made of, on this machine: what a search adds up by "
        "--cost table:FILE, instead of measuring each candidate.",
    )
    options.add_argument("space", help="a space of blocks or of compound scaling; or a TOML file")
    add_data(options)
    options.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table, a .toml file")
    options.add_argument(
        "--networks",
        type=above_zero,
        metavar="N",
        help="only the blocks of so many networks drawn at random (default: all blocks of the space)",
    )
    options.add_argument("--precision", choices=["float32", "int8"], default="float32")
    options.add_argument("--threads", type=above_zero, default=1, metavar="N", help="default: 1")
    options.add_argument(
        "--runs", type=above_zero, default=50, metavar="N", help="of each block; default: 50"
    )
    options.add_argument(
        "--check",
        type=_count,
        default=8,
        metavar="K",
        help="whole networks to measure beside their sums (default: 8; 0: none)",
    )
    return options


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number
