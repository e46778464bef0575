"""The step `distill`: all training of the recipe also follows the outputs of the uncompressed model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from quantize.formats import Format
from quantize.report import Compressed
from quantize.specs import DistillSpec, PtqSpec
from quantize.steps.step import STEPS, Context, RecipeStep, Stage, Word, Wrap, unchanged

if TYPE_CHECKING:
    import keras


@STEPS.register("distill")
class Distill(RecipeStep[DistillSpec]):
    """See `quantize.distillation`."""

    spec_class = DistillSpec
    order = 50
    words = (
        Word("distill", "every training also follows the original model's outputs", lambda: {"weight": 0.5}),
    )

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Reports a weight or temperature out of range."""
        if not 0 < self.spec.weight <= 1:
            yield "distill weight must lie above 0 and up to 1"
        if not self.spec.temperature > 0:
            yield "distill temperature must be above 0"

    def tfmot_problem(self, io: str) -> str:
        """The tool does not support a teacher."""
        return "trains without a teacher; leave out distill, or --backend"

    def wrap(self, original: keras.Model) -> Wrap:
        """Wraps the model with the original model as teacher."""
        from quantize.distillation import teaching

        return teaching(original, self.spec)

    def stages(self, context: Context) -> Iterator[Stage]:
        """One stage that only trains, if the recipe has no other step."""
        from quantize.distillation import approach

        if not context.alone:
            return

        def finish(begun: Compressed, trained: keras.Model) -> Compressed:
            return Compressed(trained, approach(trained, context.original, context.probe(trained), self.spec))

        yield Stage(self.name, unchanged(self.name), finish=finish)
