"""A small space that has everything a space can have: inactive genes, equal networks and invalid ones."""

from __future__ import annotations

from effkeras.search.genomes import Gene, Genome


class ToySpace:
    """Two layers of an op and a kernel each.

    "skip" has no kernel, the order of the two layers does not matter, and two skips are no network.
    """

    genes = (
        Gene("first.op", ("skip", "conv", "sep")),
        Gene("first.kernel", (3, 5)),
        Gene("second.op", ("skip", "conv", "sep")),
        Gene("second.kernel", (3, 5)),
    )

    def canonical(self, genome: Genome) -> Genome:
        pairs = [(op, kernel if op else 0) for op, kernel in (genome[:2], genome[2:])]
        return tuple(value for pair in sorted(pairs) for value in pair)

    def problem(self, genome: Genome) -> str:
        return "" if genome[0] or genome[2] else "all layers are skips"


# Unordered pairs of {skip, conv3, conv5, sep3, sep5} but skip with skip.
NETWORKS = 14
