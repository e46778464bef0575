"""The step `cluster`: gives each kernel few distinct weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from quantize.formats import Format
from quantize.specs import ClusterSpec, PtqSpec
from quantize.steps.step import STEPS, Context, Stage, TfmotStep, Word, check_no_depthwise

if TYPE_CHECKING:
    from effkeras.graph.rewrite import Graph
    from quantize.magnitude.selection import Selection


@STEPS.register("cluster")
class Cluster(TfmotStep[ClusterSpec]):
    """See `quantize.magnitude.clustering`."""

    tfmot_verb = "cluster"
    spec_class = ClusterSpec
    order = 40
    words = (
        Word(
            "clusterN", "N different values a layer", lambda count: {"clusters": int(count)}, r"cluster(\d+)"
        ),
    )

    def problems(self, format_: Format, ptq: PtqSpec) -> Iterable[str]:
        """Reports fewer than two clusters."""
        if self.spec.clusters < 2:
            yield "cluster needs at least 2 values"

    def tfmot_kernels(self, graph: Graph) -> Selection:
        """All kernels except depthwise ones."""
        from quantize.magnitude.selection import KernelFilter, select

        check_no_depthwise(self.spec.depthwise)
        return select(graph, KernelFilter(self.spec.skip))

    def stages(self, context: Context) -> Iterator[Stage]:
        """One stage, whose training changes the centroids."""
        from quantize.magnitude.clustering import ClusterHook, cluster, finish_clustering

        spec = self.spec
        yield Stage(
            self.name,
            begin=lambda model: cluster(model, spec),
            hooks=lambda: (ClusterHook(spec),),
            finish=lambda begun, trained: finish_clustering(begun.model, trained, spec),
            by_tfmot=self,
        )
