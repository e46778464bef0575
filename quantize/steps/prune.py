"""The step `prune`: sets the smallest weights to zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from effkeras.support.errors import EffkerasError
from quantize.formats import Format
from quantize.specs import PruneSpec, PtqSpec
from quantize.steps.step import STEPS, TFMOT, Context, Stage, TfmotStep, Word, check_no_depthwise, unchanged

if TYPE_CHECKING:
    import keras

    from effkeras.graph.rewrite import Graph
    from effkeras.support.tables import Table
    from quantize.magnitude.selection import Selection
    from quantize.report import StepReport


@STEPS.register("prune")
class Prune(TfmotStep[PruneSpec]):
    """See `quantize.magnitude.pruning`."""

    tfmot_verb = "prune"
    spec_class = PruneSpec
    order = 30
    words = (
        Word(
            "pruneN",
            "N % of the weights become zero",
            lambda percent: {"sparsity": int(percent) / 100},
            r"prune(\d+)",
        ),
        Word(
            "pruneNofM",
            "N of every M weights stay, such as prune2of4",
            lambda n, m: {"pattern": f"{n}:{m}"},
            r"prune(\d+)of(\d+)",
        ),
        Word(
            "pruneRxC",
            "half of the weights become zero, in blocks of R x C, such as prune1x4",
            lambda rows, columns: {"pattern": f"{rows}x{columns}"},
            r"prune(\d+)x(\d+)",
        ),
    )

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Reports a sparsity out of range; raises EffkerasError for an unknown pattern."""
        from quantize.magnitude.patterns import parse_pattern

        parse_pattern(self.spec.pattern, self.spec.pooling)
        if not 0 < self.spec.sparsity < 1:
            yield "prune must make more than 0 and less than 100 % zeros"

    def tfmot_options(self) -> Table:
        """The pattern as options of the tool's pruning wrappers."""
        from quantize.magnitude.patterns import Blocks, Groups, parse_pattern

        if self.spec.scope == "global":
            raise EffkerasError(f'{TFMOT} prunes layer by layer; set scope to "layer"')
        pattern = parse_pattern(self.spec.pattern, self.spec.pooling)
        options: dict[str, tuple[int, int] | str] = {}
        if isinstance(pattern, Groups):
            options = {"sparsity_m_by_n": (pattern.size - pattern.kept, pattern.size)}
        elif isinstance(pattern, Blocks) and (pattern.rows, pattern.columns) != (1, 1):
            pooling = {"average": "AVG", "max": "MAX"}[pattern.pooling]
            options = {"block_size": (pattern.rows, pattern.columns), "block_pooling_type": pooling}
        return {"pattern": options}

    def tfmot_kernels(self, graph: Graph) -> Selection:
        """The kernels that the step prunes; depthwise kernels are not supported."""
        from quantize.magnitude.pruning import select_prunable

        check_no_depthwise(self.spec.depthwise)
        return select_prunable(graph, self.spec)

    def tfmot_report(self, before: keras.Model, after: keras.Model) -> StepReport:
        """The same report as without the tool."""
        from quantize.magnitude.pruning import finish_pruning

        return finish_pruning(before, after, self.spec).report

    def stages(self, context: Context) -> Iterator[Stage]:
        """One stage, which prunes during its training."""
        from quantize.magnitude.pruning import PruneHook, finish_pruning

        spec = self.spec
        yield Stage(
            self.name,
            begin=unchanged(self.name),
            hooks=lambda: (PruneHook(spec),),
            finish=lambda begun, trained: finish_pruning(begun.model, trained, spec),
            by_tfmot=self,
        )
