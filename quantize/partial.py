"""A model with only some layers quantized: any choice of them, from one measurement of ranges."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from effkeras.litert.flatbuffer import operators, without_final_activation
from quantize import ai_edge
from quantize.ai_edge import Rules, scope_of
from quantize.output_error import OutputError
from quantize.post_training import (
    FloatParts,
    PtqOptions,
    Quantized,
    as_taken,
    corrected_and_measured,
    finished,
    ranges_of,
)
from quantize.ranges import Ranges
from quantize.recipes import find
from quantize.specs import Precision
from quantize.units import Unit, units_of


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

    @classmethod
    def of(
        cls, parts: FloatParts, options: PtqOptions, pixels: Iterable[np.ndarray], compared: int
    ) -> Partial:
        """Measures ranges on all pictures, and the outputs of the first `compared` of them."""
        pixels = list(pixels) if iter(pixels) is pixels else pixels
        ranges = ranges_of(parts, options, pixels) if options.recipe.needs_data else None
        core = without_final_activation(parts.flatbuffer)
        shown = as_taken(parts, itertools.islice(pixels, compared))
        return cls(parts, options, pixels, ranges, core, OutputError.of(core, shown, parts.spec))

    def units(self) -> list[Unit]:
        """The layers that the recipe quantizes."""
        made = operators(self.only(None))
        quantized = [scope_of(op) for op in made if op.arithmetic in ("integer", "hybrid")]
        return units_of(operators(self.core), quantized)

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

    def all_but(self, units: Iterable[Unit], precision: Precision) -> Quantized:
        """The artifact with all layers quantized except these, which stay at `precision`."""
        kept = tuple(scope for unit in units for scope in unit.scopes)
        rules = Rules(self.options.recipe, self.options.io, kept, precision)
        flatbuffer = ai_edge.quantize(self.parts.flatbuffer, self.ranges, rules)
        return corrected_and_measured(self.parts, self.options, flatbuffer, self.pixels)

    def _finished(self, flatbuffer: bytes) -> bytes:
        options = dataclasses.replace(self.options, recipe=find("float32"), io="float32")
        return finished(self.parts, options, flatbuffer).flatbuffer
