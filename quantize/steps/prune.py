"""The step `prune`: small weights become zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quantize.formats import Format
from quantize.specs import PruneSpec, PtqSpec
from quantize.steps.step import STEPS, Context, RecipeStep, Stage, Word, unchanged


@STEPS.register("prune")
class Prune(RecipeStep[PruneSpec]):
    """See `quantize.magnitude.pruning`."""

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
        """It must make some zeros, in a pattern that there is; EffkerasError for others."""
        from quantize.magnitude.patterns import parse_pattern

        parse_pattern(self.spec.pattern, self.spec.pooling)
        if not 0 < self.spec.sparsity < 1:
            yield "prune must make more than 0 and less than 100 % zeros"

    def tfmot_problem(self, io: str) -> str:
        """The tool prunes."""
        return ""

    def stages(self, context: Context) -> Iterator[Stage]:
        """One, whose training makes the zeros."""
        from quantize.magnitude.pruning import PruneHook, finish_pruning

        spec = self.spec
        yield Stage(
            self.name,
            spec,
            begin=unchanged(self.name),
            hooks=lambda: (PruneHook(spec),),
            finish=lambda begun, trained: finish_pruning(begun.model, trained, spec),
        )
