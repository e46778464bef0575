"""The step `friendly`: replaces operations that lose accuracy in int8."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from effkeras.support.tables import Table
from quantize.specs import FriendlySpec
from quantize.steps.step import STEPS, Context, RecipeStep, Stage, Word


@STEPS.register("friendly")
class Friendly(RecipeStep[FriendlySpec]):
    """See `quantize.rewriting.friendly`."""

    spec_class = FriendlySpec
    order = 10
    words = (
        Word("friendly", "swish becomes relu6", lambda: {"activation": "relu6"}),
        Word("hardswish", "swish becomes hard-swish", lambda: {"activation": "hard_swish"}),
        Word("unsqueeze", "squeeze-and-excitation is removed", lambda: {"squeeze": "remove"}),
    )

    @classmethod
    def defaults(cls, recipe: Table) -> Table:
        """Keeps activations if the recipe only sets squeeze-and-excitation."""
        own = recipe["friendly"]
        return {"activation": "keep"} if isinstance(own, Mapping) and "squeeze" in own else {}

    def stages(self, context: Context) -> Iterator[Stage]:
        """One stage."""
        from quantize.rewriting.friendly import friendly

        spec = self.spec
        yield Stage(self.name, lambda model: friendly(model, spec, images=context.probe(model)))
