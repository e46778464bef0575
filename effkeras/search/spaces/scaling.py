"""Search spaces of compound scaling: the grid of EfficientNet's coefficients (arXiv:1905.11946, 3.3).

    kind = "scaling"
    base = "efficientnet-b0"
    phi = 1
    tolerance = 0.1        # how far alpha * beta^2 * gamma^2 may be from 2

`alpha`, `beta` and `gamma` (factors of depth, width and resolution per step of phi) are 1.00, 1.05, ... 1.40
unless the file lists others; image sides are rounded to multiples of `size_multiple` pixels (8).

The cost ties alpha to beta and gamma. So a genome describes the network with the nearest alpha that fits its
beta and gamma, and is invalid only if there is none. Mutations of one gene can then reach the whole grid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.scaling import SIZE_MULTIPLE, TOLERANCE, Coefficients, grid, with_phi
from effkeras.search.genomes import Genome
from effkeras.search.spaces import choices
from effkeras.search.spaces.choices import Rule, Rules, Values, read_group
from effkeras.search.spaces.toml_space import SpaceFile, TomlSpace

_COST = 2
COEFFICIENT_RULES: Rules = {
    "alpha": choices.COEFFICIENT,
    "beta": choices.COEFFICIENT,
    "gamma": choices.COEFFICIENT,
}
_RULES: Rules = {
    "phi": Rule("a number other than 0", lambda value: _is_number(value) and value != 0),
    "tolerance": choices.FACTOR,
    "size_multiple": choices.COUNT,
}
_DEFAULTS: Values = {"phi": 1, "tolerance": TOLERANCE, "size_multiple": SIZE_MULTIPLE}


@dataclass(frozen=True)
class ScalingSpace(TomlSpace):
    """A space of the coefficient triples of a grid, for one phi."""

    phi: float
    tolerance: float
    size_multiple: int

    def canonical(self, genome: Genome) -> Genome:
        """The lowest genome with a fitting triple for the same network; the genome itself if none fits."""
        exact = self._exact.get(genome)
        return genome if exact is None else self._lowest[exact]

    def problem(self, genome: Genome) -> str:
        """The reason if no alpha fits beta and gamma; "" for a valid genome."""
        if genome in self._exact:
            return ""
        beta, gamma = self._triple(genome)[1:]
        return (
            f"no alpha brings alpha * {beta:g}^2 * {gamma:g}^2 within {self.tolerance:g} of {_COST} "
            "(beta and gamma alone are too much or too little)"
        )

    def copies(self, genome: Genome) -> int:
        """The number of genomes of the same network."""
        return self._copies[self.canonical(genome)]

    def encode(self, spec: ModelSpec) -> Genome | None:
        """The canonical genome that scales the base to a definition; None when there is none."""
        wanted = _figures(spec)
        return next((genome for genome in self._copies if _figures(self._made(genome)) == wanted), None)

    def coefficients(self, genome: Genome) -> Coefficients:
        """The fitting triple of a valid genome."""
        return Coefficients(*self._triple(self._exact[genome]))

    def _made(self, genome: Genome) -> ModelSpec:
        return with_phi(self.base, self.phi, self.coefficients(genome), self.size_multiple)

    def _triple(self, genome: Genome) -> tuple[float, float, float]:
        values = self.groups[0].values(genome)
        return float(values["alpha"]), float(values["beta"]), float(values["gamma"])

    def _fits(self, genome: Genome) -> bool:
        return abs(Coefficients(*self._triple(genome)).cost - _COST) <= self.tolerance

    @cached_property
    def _exact(self) -> dict[Genome, Genome]:
        """For every valid genome, the genome with the nearest alpha that fits."""
        fitting: dict[tuple[float, float], list[Genome]] = {}
        for genome in filter(self._fits, self.groups[0].parts()):
            fitting.setdefault(self._triple(genome)[1:], []).append(genome)
        meant = {}
        for genome in self.groups[0].parts():
            alpha, *others = self._triple(genome)
            near = fitting.get((others[0], others[1]), [])
            if near:
                meant[genome] = min(near, key=lambda one: abs(self._triple(one)[0] - alpha))
        return meant

    @cached_property
    def _lowest(self) -> dict[Genome, Genome]:
        """For every fitting genome, the lowest genome whose network is the same after rounding."""
        first: dict[Hashable, Genome] = {}
        return {
            genome: first.setdefault(_figures(self._made(genome)), genome)
            for genome in sorted(set(self._exact.values()))
        }

    @cached_property
    def _copies(self) -> Counter[Genome]:
        return Counter(self._lowest[genome] for genome in self._exact.values())


def read_scaling(file: SpaceFile) -> ScalingSpace:
    """Reads a space of compound scaling from a file.

    Raises EffkerasError for a base that cannot be scaled, and for invalid keys and choices.
    """
    file.check_keys((*COEFFICIENT_RULES, *_RULES))
    table = {key: sorted({getattr(triple, key) for triple in grid()}) for key in COEFFICIENT_RULES}
    group = read_group("", table | file.part(*COEFFICIENT_RULES), COEFFICIENT_RULES, str(file.path))
    return ScalingSpace(
        file, (group,), **{key: file.scalar(key, _RULES[key], _DEFAULTS[key]) for key in _RULES}
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figures(spec: ModelSpec) -> Hashable:
    """The values that are equal if and only if two scaled models are the same."""
    return (spec.input.size, spec.network.as_built(), spec.fpn, spec.head)
