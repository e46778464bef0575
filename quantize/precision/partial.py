"""A model with only some layers quantized: any choice of them, from one measurement of ranges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from effkeras.errors import EffkerasError
from effkeras.litert.flatbuffer import Operator, operators, without_final_activation
from effkeras.litert.sharing import share_constants
from quantize.post_training.ai_edge import Rules, scope_of
from quantize.post_training.bias_correction import corrected
from quantize.post_training.quantization import (
    FloatParts,
    PtqOptions,
    Quantized,
    ai_edge,
    as_taken,
    finished,
    means_of,
    ranges_of,
)
from quantize.post_training.ranges import Ranges
from quantize.precision.output_error import OutputError
from quantize.precision.units import Unit, neighbours, units_of
from quantize.recipes import find
from quantize.specs import Precision, PtqSpec


def conversions(graph: Iterable[Operator]) -> int:
    """How many operators convert between number formats."""
    return sum(op.name in ("QUANTIZE", "DEQUANTIZE") for op in graph)


def kept_precision(spec: PtqSpec) -> Precision:
    """What layers keep that do not become int8."""
    return "float32" if spec.precision == "int8" else spec.precision


def check_can_mix(spec: PtqSpec) -> None:
    """Raises EffkerasError for a backend that cannot quantize some layers only."""
    if spec.backend != "ai-edge-quantizer":
        raise EffkerasError(
            f"the backend {spec.backend} cannot quantize some layers only, which a budget may ask for; "
            "use the backend ai-edge-quantizer"
        )


@dataclass(frozen=True, eq=False, slots=True)
class Partial:
    """A float conversion with measured ranges, ready to be quantized in part.

    `core` is the conversion without a softmax at its end: outputs are compared before it. `reference` are the
    core's outputs.
    """

    parts: FloatParts
    options: PtqOptions
    pixels: Iterable[np.ndarray]
    ranges: Ranges | None
    core: bytes
    reference: OutputError
    units: tuple[Unit, ...]
    means: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray], compared: int
    ) -> Partial:
        """Measures ranges on all pictures, and the outputs of the first `compared` of them.

        Raises EffkerasError for a backend that cannot quantize in part.
        """
        check_can_mix(options.spec)
        pixels = list(pixels) if iter(pixels) is pixels else pixels
        ranges = ranges_of(parts, options, pixels) if options.recipe.needs_data else None
        core = without_final_activation(parts.flatbuffer)
        shown = as_taken(parts, itertools.islice(pixels, compared))
        reference = OutputError.of(core, shown, parts.spec)
        made = operators(ai_edge.quantize(core, ranges, Rules(options.recipe)))
        quantized = [scope_of(op) for op in made if op.arithmetic in ("integer", "hybrid")]
        units = tuple(units_of(operators(core), quantized))
        means = means_of(parts, options, pixels)
        return cls(parts, options, pixels, ranges, core, reference, units, means)

    def only(self, scopes: tuple[str, ...] | None) -> bytes:
        """The core with float edges and only these operators quantized; with all of them for None."""
        return ai_edge.quantize(self.core, self.ranges, Rules(self.options.recipe, only=scopes))

    def only_whole(self, scopes: tuple[str, ...]) -> bytes:
        """The same with all of the model, as an artifact with float edges."""
        rules = Rules(self.options.recipe, only=scopes)
        return self._finished(ai_edge.quantize(self.parts.flatbuffer, self.ranges, rules))

    def unquantized(self) -> bytes:
        """The float artifact, with float edges."""
        return self._finished(self.parts.flatbuffer)

    def all_but(self, kept: Iterable[str]) -> Quantized:
        """The artifact with all layers quantized except those of these names."""
        flatbuffer = share_constants(self._all_but(kept))
        if self.means:
            flatbuffer = corrected(self.parts.flatbuffer, flatbuffer, self.means)
        return finished(self.parts, self.options, flatbuffer)

    def bridges(self, kept: Iterable[str]) -> list[str]:
        """Layers without weights that touch two kept ones or more."""
        touching = neighbours(operators(self.core), self.units)
        names = set(kept)
        free = [unit.name for unit in self.units if not unit.macs and unit.name not in names]
        return [name for name in free if len(touching[name] & names) > 1]

    def conversions(self, kept: Iterable[str]) -> int:
        """How many operators of the artifact convert between number formats."""
        return conversions(operators(self._all_but(kept)))

    def _all_but(self, kept: Iterable[str]) -> bytes:
        names = set(kept)
        scopes = tuple(scope for unit in self.units if unit.name in names for scope in unit.scopes)
        rules = Rules(self.options.recipe, self.options.io, scopes, kept_precision(self.options.spec))
        return ai_edge.quantize(self.parts.flatbuffer, self.ranges, rules)

    def _finished(self, flatbuffer: bytes) -> bytes:
        options = dataclasses.replace(self.options, recipe=find("float32"), io="float32")
        return finished(self.parts, options, flatbuffer).flatbuffer
