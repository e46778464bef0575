"""Costs of a candidate, and search spaces with limits on them.

Costs are counted, measured on the .tflite file, or predicted from a table of blocks. Models over a limit are
excluded from a space, so that no trial is spent on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from effkeras.data.classes import Classes
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import cost
from effkeras.search.evaluation.settings import TABLE, ArtifactSettings, check_cost
from effkeras.search.genomes import Gene, Genome, check_space, sample
from effkeras.search.spaces.reading import ModelSpace
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table

# The number of draws; the descent to lower costs starts from the cheapest of them.
_STARTS = 10
# If the cheapest network found costs more than this factor times a limit, no network is within the limits.
_HOPELESS = 1.2


def cost_of(
    spec: ModelSpec, names: Iterable[str], artifact: ArtifactSettings | None = None
) -> dict[str, float]:
    """The costs of a model, by name.

    Args:
        spec: the definition, with the classes and the input size of the data.
        names: any of "parameters" (trainable weights), "macs" (multiply-adds for one image), "bytes" (size
            of the .tflite), "latency_ms" (the median of single inferences with XNNPACK, measured on this
            machine) and "table:FILE" (milliseconds predicted by a table of the space, which
            `effkeras search table` writes). The first two and the last do not need TensorFlow.
        artifact: how the .tflite is made and timed. Its weights are random; size and latency do not
            depend on them.

    Raises:
        EffkerasError: an unknown cost, a definition that cannot be built, or a table that lacks one of its
            blocks.
    """
    chosen = artifact or ArtifactSettings()
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        check_cost(name)
    found = {**_counted(spec, wanted), **_measured(spec, wanted, chosen)}
    found |= {name: _predicted(spec, name, chosen) for name in wanted if name.startswith(TABLE)}
    return {name: found[name] for name in wanted}


def _counted(spec: ModelSpec, wanted: list[str]) -> dict[str, float]:
    if not {"parameters", "macs"} & set(wanted):
        return {}
    parameters, macs = cost(spec)
    return {"parameters": float(parameters), "macs": float(macs)}


def _measured(spec: ModelSpec, wanted: list[str], chosen: ArtifactSettings) -> dict[str, float]:
    if not {"bytes", "latency_ms"} & set(wanted):
        return {}
    from effkeras.search.evaluation.artifacts import artifact_of, median_ms

    flatbuffer = artifact_of(spec, chosen.precision)
    measures: dict[str, Callable[[], float]] = {
        "bytes": lambda: float(len(flatbuffer)),
        "latency_ms": lambda: median_ms([flatbuffer], chosen)[0],
    }
    return {name: measure() for name, measure in measures.items() if name in wanted}


def _predicted(spec: ModelSpec, name: str, chosen: ArtifactSettings) -> float:
    from effkeras.search.evaluation.block_tables import predicted_by

    return predicted_by(spec, Path(name.removeprefix(TABLE)), chosen.threads)


@dataclass(frozen=True, slots=True)
class LimitedSpace:
    """A space whose valid genomes are within limits on their costs.

    `limits` has the limits by the name of the cost. Only costs that need neither TensorFlow nor a
    measurement are allowed, as every drawn or changed genome is counted. `classes` are the classes of the
    data, used for counting if given. `artifact` selects the values to read from a block table. `start` is a
    genome within the limits, for spaces where draws rarely find one.
    """

    space: ModelSpace
    limits: Mapping[str, float]
    classes: Classes | None = None
    artifact: ArtifactSettings = field(default_factory=ArtifactSettings)
    start: Genome | None = None
    _known: dict[Genome, Mapping[str, float]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """All genes of the space."""
        return self.space.genes

    @property
    def name(self) -> str:
        """The name of the space."""
        return self.space.name

    @property
    def source(self) -> str:
        """The name or path from which `read_space` reads the space."""
        return self.space.source

    @property
    def digest(self) -> str:
        """The digest of the space, without the limits, which belong to the objective."""
        return self.space.digest

    @property
    def table(self) -> Table:
        """The content of the space's file."""
        return dict(self.space.table)

    def canonical(self, genome: Genome) -> Genome:
        """The one genome that represents all genomes of the same network."""
        return self.space.canonical(genome)

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a candidate."""
        return self.space.spec(genome)

    def problem(self, genome: Genome) -> str:
        """Why the genome describes no network, or a network over a limit; "" for a valid one."""
        plain = self.space.problem(genome)
        if plain:
            return plain
        costs = self.costs(genome)
        over = [name for name, limit in self.limits.items() if costs[name] > limit]
        return "; ".join(
            f"{name} {costs[name]:,.10g} is over the limit of {self.limits[name]:,.10g}" for name in over
        )

    def costs(self, genome: Genome) -> Mapping[str, float]:
        """The limited costs of a valid genome of the space, by name."""
        made = self.space.canonical(genome)
        if made not in self._known:
            spec = self.space.spec(made)
            fitting = spec if self.classes is None else self.classes.given_to(spec)
            self._known[made] = cost_of(fitting, self.limits, self.artifact)
        return self._known[made]

    def excess(self, genome: Genome) -> float:
        """The largest ratio of cost to limit of a valid genome of the space; up to 1 is within the limits."""
        costs = self.costs(genome)
        return max(costs[name] / limit for name, limit in self.limits.items())


def check_limits(limited: LimitedSpace) -> LimitedSpace:
    """Returns the space with a `start` genome within the limits.

    Raises EffkerasError, with the costs of the cheapest network found, when none is within the limits.

    `cheapest` lowers the costs gene by gene. If it ends far over the limits, there is no such network.
    Otherwise random draws must find one, because strategies start from random draws.
    """
    best = cheapest(limited)
    why = ""
    if limited.excess(best) <= _HOPELESS:
        try:
            return replace(limited, start=check_space(limited))
        except EffkerasError:
            within = limited.excess(best) <= 1
            why = "; networks within the limits are too rare to be drawn" if within else ""
    costs = limited.costs(best)
    found = " and ".join(f"{name} {costs[name]:,.10g}" for name in limited.limits)
    limits = " and ".join(f"{limit:,.10g}" for limit in limited.limits.values())
    raise EffkerasError(
        f"no network of {limited.name} is within the limits: the cheapest found has {found}, and the "
        f"{'limits are' if len(limited.limits) > 1 else 'limit is'} {limits}{why}; raise the limits"
    )


def cheapest(limited: LimitedSpace) -> Genome:
    """The cheapest network found in rounds over all genes, or the first one within the limits.

    The rounds end when another round with the gain of the last one would not reach the limits.
    """
    random = np.random.default_rng(0)
    draws = [sample(limited.space, random) for _ in range(_STARTS)]
    best = min(draws, key=limited.excess)
    before = after = limited.excess(best)
    while after > 1:
        best = _cheaper(limited, best)
        before, after = after, limited.excess(best)
        if after * (after / before) > 1:
            break
    return best


def _cheaper(limited: LimitedSpace, genome: Genome) -> Genome:
    """Sets each gene in turn to its cheapest choice; stops within the limits."""
    for index, gene in enumerate(limited.genes):
        if limited.excess(genome) <= 1:
            break
        ways = ((*genome[:index], choice, *genome[index + 1 :]) for choice in range(len(gene.choices)))
        genome = min(
            itertools.chain([genome], (way for way in ways if not limited.space.problem(way))),
            key=limited.excess,
        )
    return genome
