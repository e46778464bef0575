"""Compound scaling: the scaling law, and the rounding of channels and repeats.

Depth, width and resolution grow together: EfficientNet (arXiv:1905.11946, section 3.3) multiplies depth by
alpha^phi, width by beta^phi and resolution by gamma^phi, which costs about
`(alpha * beta^2 * gamma^2)^phi` times the operations. The authors chose the published B1 to B7 by hand near
this law: they are definitions of the zoo, not values of phi.
Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import numbers
from dataclasses import dataclass
from typing import Any

from effkeras.definitions.definition import FpnSpec, HeadSpec, InputSpec, ModelSpec, detector_parts
from effkeras.definitions.networks import LARGEST, Network
from effkeras.support.errors import EffkerasError

DIVISOR = 8  # scaled channels are multiples of 8
SIZE_MULTIPLE = 8
TOLERANCE = 0.1
_FAR = 30.0


def round_filters(filters: int, width: float, round_limit: float) -> int:
    """Channels after scaling by `width`: a multiple of 8, at least `round_limit` times the exact value."""
    return filters if width == 1.0 else round_to(filters * width, DIVISOR, round_limit)


def round_to(exact: float, divisor: int, round_limit: float) -> int:
    """The nearest positive multiple of `divisor`, or the next one if that is below `round_limit * exact`."""
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * exact else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Blocks of a stage after scaling by `depth`."""
    return math.ceil(depth * repeats)


def finite(name: str, value: Any) -> float:
    """A number as a float. Raises EffkerasError for infinity, NaN, booleans and other types."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except OverflowError:  # an integer too large for a float
        number = math.inf
    if not math.isfinite(number):
        raise EffkerasError(f"{name} must be a finite number, not {value!r:.40}")
    return number


@dataclass(frozen=True, slots=True)
class Scaling:
    """Factors for a network's depth and width and for the height and width of its images."""

    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The factors of depth, width and resolution per step of phi; the defaults are the paper's."""

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = finite(name, getattr(self, name))
            if value < 1:
                raise EffkerasError(f"{name} must be at least 1, not {value:g}")

    @property
    def cost(self) -> float:
        """`alpha * beta^2 * gamma^2`: the factor of operations per step of phi, before rounding."""
        return self.alpha * self.beta**2 * self.gamma**2

    def at(self, phi: float) -> Scaling:
        """The factors at phi. Raises EffkerasError for a phi too large to build."""
        exponent = finite("phi", phi)
        if abs(exponent) > _FAR:
            raise EffkerasError(f"phi {exponent:g} is far beyond what can be built; the papers end at 7")
        try:
            return Scaling(self.alpha**exponent, self.beta**exponent, self.gamma**exponent)
        except OverflowError:
            raise EffkerasError(f"{self} at phi {exponent:g} is far beyond what can be built") from None


PAPER = Coefficients()


@dataclass(frozen=True, slots=True)
class DetectorLaw:
    """EfficientDet's scaling per step of phi (arXiv:1911.09070, section 4.2), relative to D0.

    BiFPN channels grow by `channels`^phi and BiFPN cells by phi; heads gain a layer every `head_every` steps;
    the image's height and width grow by `sides` of D0's: 128 of 512 pixels. The zoo's D1 to D7 follow the
    authors' table, which departs from the law: D2 has 112 channels, not 120, D5 has 7 cells and 1280 pixels.
    """

    channels: float = 1.35
    head_every: int = 3
    sides: float = 0.25

    def fpn(self, fpn: FpnSpec, phi: float) -> FpnSpec:
        """The BiFPN at phi: channels rounded to a multiple of 8, cells to a whole number."""
        channels = round_to(fpn.channels * self.channels**phi, DIVISOR, 0.9)
        return dataclasses.replace(fpn, channels=channels, cells=_nearest(fpn.cells + phi))

    def head(self, head: HeadSpec, phi: float) -> HeadSpec:
        """The heads at phi."""
        return dataclasses.replace(head, repeats=head.repeats + math.floor(phi / self.head_every))

    def resolution(self, phi: float) -> float:
        """The factor of the image's height and width at phi."""
        return 1 + self.sides * phi


def compound(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> Scaling:
    """The factors of compound scaling at phi, unrounded; phi may be a fraction.

    Raises EffkerasError for a value that is not a finite number, and for a coefficient below 1.
    """
    return Coefficients(alpha, beta, gamma).at(phi)


def grid(tolerance: float = TOLERANCE) -> list[Coefficients]:
    """All triples from 1.00, 1.05, ... 1.40 whose cost is within `tolerance` of 2, the paper's condition.

    The paper's own triple costs 1.92: a tolerance below 0.08 excludes it.
    """
    values = [1 + step / 20 for step in range(9)]
    triples = itertools.starmap(Coefficients, itertools.product(values, repeat=3))
    return [triple for triple in triples if abs(triple.cost - 2) <= tolerance]


def with_phi(
    spec: ModelSpec,
    phi: float,
    coefficients: Coefficients = PAPER,
    size_multiple: int = SIZE_MULTIPLE,
) -> ModelSpec:
    """The model scaled by phi steps; the given model is phi 0.

    `coefficients` scale a classifier's network and input; a network of cells gets more cells with more
    filters. A detector scales by EfficientDet's law, and its backbone by `coefficients`. Height and width
    become the nearest multiple of `size_multiple` pixels. Dropout and everything else stay. A negative phi
    scales down.

    Raises:
        EffkerasError: the network has no factors to scale, or the result is invalid.
    """
    factors = coefficients.at(phi)
    if phi == 0:
        return spec
    network = _scaled_network(spec, factors)
    named = _Derived(spec, f"phi{phi:g}" + _own(coefficients), f"at phi {phi:g}")
    if not spec.is_detector:
        return named.replace(network=network, input=_sized(spec, factors.resolution, size_multiple))
    law, parts = DetectorLaw(), detector_parts(spec)
    return named.replace(
        network=network,
        input=_sized(spec, law.resolution(phi), size_multiple),
        fpn=law.fpn(parts.fpn, phi),
        head=law.head(parts.head, phi),
    )


def with_scaling(spec: ModelSpec, scaling: Scaling, size_multiple: int = SIZE_MULTIPLE) -> ModelSpec:
    """The model with network and input scaled by the given factors; a detector's BiFPN and heads stay.

    Raises EffkerasError like `with_phi`.
    """
    if scaling == Scaling():
        return spec
    figures = (scaling.depth, scaling.width, scaling.resolution)
    tag = "d{:g}-w{:g}-r{:g}".format(*figures)
    named = _Derived(spec, tag, "{:g} times as deep, {:g} as wide, {:g} as large".format(*figures))
    network = _scaled_network(spec, scaling)
    return named.replace(network=network, input=_sized(spec, scaling.resolution, size_multiple))


def with_width(spec: ModelSpec, width: float) -> ModelSpec:
    """The model and a detector's BiFPN `width` times as wide; channels are multiples of 8.

    Each family keeps its own rules: its definition says whether stem and head keep their width. Raises
    EffkerasError like `with_phi`.
    """
    factor = _positive("width", width)
    if factor == 1:
        return spec
    named = _Derived(spec, f"w{factor:g}", f"{factor:g} times as wide")
    network = _scaled_network(spec, Scaling(width=factor))
    if not spec.is_detector:
        return named.replace(network=network)
    fpn = detector_parts(spec).fpn
    channels = round_to(fpn.channels * factor, DIVISOR, 0.9)
    return named.replace(network=network, fpn=dataclasses.replace(fpn, channels=channels))


@dataclass(frozen=True, slots=True)
class _Derived:
    """A definition derived from another, without that one's published figures and weights."""

    spec: ModelSpec
    tag: str
    how: str

    def replace(self, **changes: Any) -> ModelSpec:
        name, summary = f"{self.spec.name}-{self.tag}", f"{self.spec.name}, {self.how}"
        return self.spec.replace(name=name, summary=summary, published=None, weights={}, **changes)


def _scaled_network(spec: ModelSpec, scaling: Scaling) -> Network:
    width, depth = _factor("width", scaling.width), _factor("depth", scaling.depth)
    if spec.channels and (width, depth) != (1, 1):
        raise EffkerasError(f"{spec.name} cannot be scaled: its [channels] fix the widths of its layers")
    scaled = spec.network.scaled(width, depth)
    if scaled is None:
        raise EffkerasError(f"{spec.name} cannot be scaled: its network has no width and depth to multiply")
    return scaled


def _sized(spec: ModelSpec, factor: float, multiple: int) -> InputSpec:
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise EffkerasError(f"the size multiple must be a whole number of pixels above 0, not {multiple!r}")
    if _positive("resolution", factor) == 1:
        return spec.input
    height, width = spec.input.size
    size = (_nearest(height * factor / multiple) * multiple, _nearest(width * factor / multiple) * multiple)
    return dataclasses.replace(spec.input, size=size)


def _positive(name: str, value: Any) -> float:
    number = finite(name, value)
    if number <= 0:
        raise EffkerasError(f"{name} must be above 0, not {number:g}")
    return number


def _factor(name: str, value: Any) -> float:
    number = _positive(name, value)
    if number > LARGEST:
        raise EffkerasError(f"{name} must be above 0 and at most {LARGEST}, not {number:g}")
    return number


def _nearest(value: float) -> int:
    """The nearest whole number; halves round up."""
    return math.floor(value + 0.5)


def _own(coefficients: Coefficients) -> str:
    if coefficients == PAPER:
        return ""
    return "".join(f"-{value:g}" for value in dataclasses.astuple(coefficients))
