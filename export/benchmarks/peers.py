"""`python -m export.benchmarks.peers`: our latency against other packages' same architectures.

TFLiteConverter converts the peers (`peers.toml`) as their users would; ours are converted as
`export tflite --for xnnpack` does. Both artifacts of a pair take turns in one process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from effkeras.support import results
from effkeras.support.console import note, quiet, run_command, table
from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.options import above_zero, parser
from effkeras.support.tables import read_toml, to_record

if TYPE_CHECKING:
    from effkeras.support.measurements import Latency

PEERS = Path(__file__).with_name("peers.toml")
WORKER = Path(__file__).with_name("peers_worker.py")
RECIPES = ("float32", "int8")
THREADS = (1, 2)
COLUMNS = ("recipe", "thr", "ours ms", "theirs", "ratio", "at most", "in one piece")


@dataclass(frozen=True, slots=True)
class Peer:
    """A network of another package with the architecture of one of ours.

    `environment` says which Python has the package. `at_most` is the highest allowed ratio of our latency to
    the peer's.
    """

    environment: Literal["own", "peers"]
    module: str
    model: str
    side: int
    at_most: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The latencies of both artifacts for one recipe and one number of threads."""

    name: str
    recipe: str
    peer: Peer
    ours: Latency
    theirs: Latency

    @property
    def ratio(self) -> float:
        """Our fastest run divided by theirs: other load on the machine affects the fastest runs least."""
        return self.ours.min_ms / self.theirs.min_ms

    def to_row(self) -> results.Row:
        """The measurement as a plain record of kind "peer"."""
        return {
            "kind": "peer",
            "model": self.name,
            "recipe": self.recipe,
            "peer": f"{self.peer.module}.{self.peer.model}",
            "side": self.peer.side,
            "threads": self.ours.threads,
            "ours": self.ours.to_row(),
            "theirs": self.theirs.to_row(),
            "ratio": round(self.ratio, 3),
            "ratio_median": round(self.ours.typical_ms / self.theirs.typical_ms, 3),
            "at_most": self.peer.at_most,
        }


@dataclass(frozen=True, slots=True)
class Places:
    """The peers' Python, and the folder for artifacts; those of peers are kept between runs."""

    python: Path
    work: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run_command(lambda: _run(argv))


def read_peers(file: Path = PEERS) -> dict[str, Peer]:
    """All peers by the name of our model."""
    return {name: to_record(Peer, entry, f"{file}: {name}") for name, entry in read_toml(file).items()}


def timed(name: str, peer: Peer, places: Places, runs: int) -> Iterator[Pair]:
    """Makes our artifacts, and the peer's if they do not exist yet, and times both.

    Raises EffkerasError when the peer's environment is missing or its conversion fails.
    """
    from effkeras.litert.latency import InterpreterOptions, Plan, measure_all

    theirs, ours = _theirs(name, peer, places), _ours(name, peer, places.work)
    for recipe in RECIPES:
        files = (ours / f"{recipe}.tflite", theirs / f"{recipe}.tflite")
        for threads in THREADS:
            jobs = [(file.read_bytes(), InterpreterOptions(xnnpack=True, threads=threads)) for file in files]
            own, other = measure_all(jobs, Plan(runs, warmup=5), f"timing {name} {recipe}, {threads} threads")
            yield Pair(name, recipe, peer, own, other)


def _theirs(name: str, peer: Peer, places: Places) -> Path:
    folder = places.work / "peers" / name
    if _is_whole(folder):
        return folder
    python = Path(sys.executable) if peer.environment == "own" else places.python
    if not python.is_file():
        raise EffkerasError(f"{python}: no such Python; make bench-export makes it, or give --python")
    folder.mkdir(parents=True, exist_ok=True)
    note(f"converting {peer.module}.{peer.model} the plain way")
    # -P keeps this folder off the module path, where its modules could hide packages of the same name.
    command = [str(python), "-P", str(WORKER), peer.module, peer.model, str(peer.side), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise EffkerasError(f"{peer.module}.{peer.model} could not be converted: {last}")
    return folder


def _ours(name: str, peer: Peer, work: Path) -> Path:
    folder = work / "ours" / name
    note(f"converting {name}")
    with quiet():
        from effkeras.building.models import build
        from effkeras.litert.tiling import tile_rows
        from effkeras.support.files import write_bytes
        from export.benchmarks.random_models import artifacts_on_random_images

        model = build(name, input_shape=(peer.side, peer.side))
    folder.mkdir(parents=True, exist_ok=True)
    for recipe, flatbuffer in artifacts_on_random_images(model, RECIPES).items():
        write_bytes(folder / f"{recipe}.tflite", tile_rows(flatbuffer))
    return folder


def _is_whole(folder: Path) -> bool:
    return all((folder / f"{recipe}.tflite").is_file() for recipe in RECIPES)


def _run(argv: Sequence[str] | None) -> None:
    chosen = _options(argv)
    peers = read_peers()
    for name in chosen.only or peers:
        if name not in peers:
            raise EffkerasError(f"there is no peer of {name!r}; {did_you_mean(name, peers)}")
    places = Places(chosen.python, chosen.work)
    for name in chosen.only or peers:
        pairs = list(timed(name, peers[name], places, chosen.runs))
        results.append(chosen.out, [results.stamped(pair.to_row()) for pair in pairs])
        table(f"{name} at {peers[name].side} pixels", COLUMNS, [_cells(pair) for pair in pairs])


def _cells(pair: Pair) -> list[str]:
    return [
        pair.recipe,
        str(pair.ours.threads),
        f"{pair.ours.min_ms:.1f}",
        f"{pair.theirs.min_ms:.1f}",
        f"{pair.ratio:.2f}",
        f"{pair.peer.at_most:.2f}",
        f"{pair.ours.delegation.partitions} / {pair.theirs.delegation.partitions}",
    ]


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser("peers-bench", "Times our artifacts against the same architectures elsewhere.")
    options.add_argument("--out", type=Path, default=Path("models/results.jsonl"), help="add the rows here")
    options.add_argument(
        "--work", type=Path, default=Path("runs/peers"), help="where artifacts go, and peers' are kept"
    )
    options.add_argument(
        "--python", type=Path, default=Path(".venv-peers/bin/python"), help="the Python that has the peers"
    )
    options.add_argument("--runs", type=above_zero, default=150, help="timed runs of each (default: 150)")
    options.add_argument("--only", nargs="+", metavar="MODEL", help="these of our models only")
    return options.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
