"""Networks that train an epoch in a blink, and a space of them."""

from __future__ import annotations

import dataclasses
import math

from effkeras.definitions import zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import BatchNormSpec
from effkeras.search.genomes import Gene, Genome
from support.tiny import QUICK_NORM


def block_net(*blocks: str, **network: object) -> ModelSpec:
    """A classifier of digits at 32 px, of these block strings."""
    spec = zoo.spec("efficientnet-digits")
    small = {"width": 1.0, "blocks": blocks, "stem": 8, "head": 16, "batch_norm": QUICK_NORM, **network}
    made = dataclasses.replace(spec.network, **small)  # type: ignore[arg-type]
    return spec.replace(name="trial", network=made, weights={})


class BlockSpace:
    """Two stages whose kernel, expansion, squeeze, width and depth are chosen: 64 networks."""

    name = "trial-blocks"
    digest = "0123456789abcdef"
    genes = (
        Gene("first.kernel", (3, 5)),
        Gene("first.expand", (1, 3)),
        Gene("second.squeeze", (0.0, 0.25)),
        Gene("second.kernel", (3, 5)),
        Gene("second.width", (16, 24)),
        Gene("second.repeats", (1, 2)),
    )
    momentum = 0.9

    def canonical(self, genome: Genome) -> Genome:
        return genome

    def problem(self, genome: Genome) -> str:
        return ""

    @property
    def base(self) -> ModelSpec:
        return self.spec((0,) * len(self.genes))

    def spec(self, genome: Genome) -> ModelSpec:
        k, e, se, k2, o, r = (gene.choices[i] for gene, i in zip(self.genes, genome, strict=True))
        squeeze = f"_se{se}" if se else ""
        blocks = (f"r1_k{k}_s1_e{e}_i8_o8", f"r{r}_k{k2}_s2_e3_i8_o{o}{squeeze}")
        return block_net(*blocks, batch_norm=BatchNormSpec(momentum=self.momentum))


BLOCK_NETWORKS = math.prod(len(gene.choices) for gene in BlockSpace.genes)
