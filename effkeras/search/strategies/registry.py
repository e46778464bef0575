"""All strategies by name, and how one is made from its name and options."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from effkeras.errors import EffkerasError, did_you_mean
from effkeras.search.genomes import Space
from effkeras.search.strategies.protocol import Strategy
from effkeras.tables import to_record


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a strategy lives: what makes it, and the class of its options, both names in `module`."""

    help: str
    module: str
    maker: str
    options: str


_ENTRIES: Mapping[str, Entry] = {
    "random": Entry("draws at random, the baseline", "random_search", "RandomSearch", "RandomOptions"),
    "grid": Entry("every network once, in order, for small spaces", "grid", "Grid", "GridOptions"),
    "evolution": Entry("regularised evolution (AmoebaNet)", "evolution", "Evolution", "EvolutionOptions"),
    "logits": Entry("independent logits, policy gradient (TuNAS)", "logits", "logits", "LogitsOptions"),
    "controller": Entry(
        "LSTM controller, policy gradient (NASNet)", "controller", "controller", "ControllerOptions"
    ),
    "progressive": Entry(
        "gene by gene, with a surrogate (PNASNet)", "progressive", "Progressive", "ProgressiveOptions"
    ),
    "tpe": Entry("tree-structured Parzen estimator (Optuna)", "tpe", "tpe", "TpeOptions"),
    "nsga2": Entry("NSGA-II: accuracy against cost (Optuna)", "nsga2", "nsga2", "Nsga2Options"),
}

STRATEGIES: Mapping[str, str] = {name: entry.help for name, entry in _ENTRIES.items()}
# For a Pareto front: what weighs accuracy against cost, or looks at neither. The others maximise a reward.
FRONT_STRATEGIES = ("nsga2", "random", "grid")


def make_strategy(name: str, space: Space, seed: int, options: Mapping[str, Any] | None = None) -> Strategy:
    """A strategy by its name, with `options` instead of its defaults.

    Raises EffkerasError for an unknown name or option, a value or seed that makes no sense, and for a
    strategy of Optuna's where that is not installed.
    """
    entry = _entry(name)
    if seed < 0:
        raise EffkerasError(f"the seed must be 0 or more, not {seed}")
    chosen = to_record(_part(entry, entry.options), options or {}, f"options of {name}")
    made: Strategy = _part(entry, entry.maker)(space, seed, chosen)
    return made


def default_options(name: str) -> dict[str, Any]:
    """The options of a strategy and their defaults; EffkerasError for an unknown name."""
    entry = _entry(name)
    return dataclasses.asdict(_part(entry, entry.options)())


def _entry(name: str) -> Entry:
    if name not in _ENTRIES:
        raise EffkerasError(f"unknown strategy {name!r}; {did_you_mean(name, _ENTRIES)}")
    return _ENTRIES[name]


def _part(entry: Entry, name: str) -> Any:
    return getattr(importlib.import_module(f"effkeras.search.strategies.{entry.module}"), name)
