"""The step `qat`: quantization-aware training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table
from quantize.formats import Format
from quantize.specs import RANGE_WORDS, PtqSpec, QatSpec
from quantize.steps.step import STEPS, TFMOT, Context, Stage, TfmotStep, Word

if TYPE_CHECKING:
    from effkeras.graph.rewrite import Graph
    from quantize.magnitude.selection import Selection


@STEPS.register("qat")
class Qat(TfmotStep[QatSpec]):
    """See `quantize.aware.quantization_aware`."""

    tfmot_verb = "quantize"
    tfmot_whole = True
    spec_class = QatSpec
    order = 60
    words = (Word("qat", "trained with quantization", lambda: {"ranges": "ema"}),)
    trains_ranges = True

    @classmethod
    def defaults(cls, recipe: Table) -> Table:
        """Keeps clusters if the recipe clusters."""
        return {"keep_clusters": True} if "cluster" in recipe else {}

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Reports a format other than int8, and options for ranges, which are trained."""
        if not format_.activations == format_.weights == "int8":
            yield "qat trains for int8: end it with -int8"
        if ptq.sets_ranges:
            yield f"qat trains the ranges: leave out {RANGE_WORDS}"

    def tfmot_problem(self, io: str) -> str:
        """The tool makes the artifact too, but does not support uint8."""
        if io == "uint8":
            return "makes artifacts with inputs and outputs of float32 or int8; use --io int8"
        return ""

    def tfmot_kernels(self, graph: Graph) -> Selection:
        """All kernels except those in `skip`."""
        from quantize.magnitude.selection import KernelFilter, select

        if self.spec.ranges != "ema":
            raise EffkerasError(f'{TFMOT} cannot learn ranges; set ranges to "ema"')
        if self.spec.keep_clusters:
            raise EffkerasError(f"{TFMOT} gives no clustered weights back; set keep_clusters to false")
        return select(graph, KernelFilter(self.spec.skip, depthwise=True))

    def stages(self, context: Context) -> Iterator[Stage]:
        """One stage."""
        from quantize.aware.quantization_aware import qat
        from quantize.magnitude.selection import SKIPPED

        spec = self.spec
        yield Stage(
            self.name,
            begin=lambda model: qat(model, context.train, spec, seed=context.seed),
            allowed=(SKIPPED,),
            by_tfmot=self,
        )
