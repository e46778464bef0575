"""Stages of a space of blocks: their choices, the blocks they build, and which choices build equal blocks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from effkeras.definitions.blocks import Stage, encode
from effkeras.definitions.scaling import round_filters
from effkeras.graph.mbconv import Block
from effkeras.graph.networks.blocks import BlockNetwork, blocks_of
from effkeras.search.genomes import Choice, Genome
from effkeras.search.spaces import choices
from effkeras.search.spaces.choices import Group, Rules, Values
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import Table


class Built(NamedTuple):
    """Everything that the layers of a block depend on; blocks with equal records are the same."""

    inputs: int
    outputs: int
    stride: int
    kernels: tuple[int, ...]
    expanded: int
    expands: bool
    fused: bool
    squeeze: int
    has_skip: bool
    activation: str
    groups: tuple[int, int]


def built(network: BlockNetwork) -> tuple[Built, ...]:
    """The blocks of a network."""
    return tuple(_built(block, network.activation) for block in blocks_of(network))


def _built(block: Block, activation: str) -> Built:
    stage, expands = block.stage, block.stage.expand != 1
    return Built(
        inputs=block.inputs,
        outputs=block.outputs,
        stride=block.stride,
        kernels=stage.kernels,
        expanded=block.expanded,
        expands=expands,
        fused=stage.fused,
        squeeze=block.squeeze,
        has_skip=block.has_skip,
        activation=stage.activation or activation,
        groups=(
            stage.expand_groups if expands and not stage.fused else 1,
            stage.project_groups if expands or not stage.fused else 1,
        ),
    )


SKIP = "skip"
# For each op: whether the block is fused, and whether it expands.
_OPS = {"mbconv": (False, True), "separable": (False, False), "fused": (True, True), "conv": (True, False)}
_EXPANDING = [op for op, (_, expands) in _OPS.items() if expands]
# Keys whose values are fields of a decoded block string without conversion.
_FIELDS = {
    "squeeze": "squeeze",
    "repeats": "repeats",
    "stride": "stride",
    "shortcut": "skip",
    "activation": "activation",
}

STAGE_RULES: Rules = {
    "op": choices.one_of([*_OPS, SKIP]),
    "kernel": choices.KERNEL,
    "expand": choices.FACTOR,
    "squeeze": choices.SHARE,
    "outputs": choices.COUNT,
    "repeats": choices.REPEATS,
    "stride": choices.STRIDE,
    "shortcut": choices.FLAG,
    "activation": choices.ACTIVATION,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """The network around a stage, whose own blocks are ignored, and the factor of all outputs."""

    network: BlockNetwork
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class StageChoices:
    """A stage of the base, as built, and its choices."""

    base: Stage
    group: Group

    def made(self, part: Genome, inputs: int, frame: Frame) -> Stage | None:
        """The stage that a part of a genome selects, for `inputs` channels; None when it is skipped.

        Raises EffkerasError for conflicting choices.
        """
        values = self.group.values(part)
        if is_skipped(values):
            return None
        op = str(values.get("op", _op_of(self.base)))
        fused, expands = _OPS[op]
        own = {field: values[key] for key, field in _FIELDS.items() if key in values}
        stage = dataclasses.replace(
            self.base,
            inputs=inputs,
            outputs=self._outputs(values, frame),
            kernels=_kernels(values["kernel"]) if "kernel" in values else self.base.kernels,
            expand=float(values.get("expand", self.base.expand)) if expands else 1.0,
            fused=fused,
            **own,  # type: ignore[arg-type]
        )
        if fused and len(stage.kernels) > 1:
            kernels = " and ".join(map(str, stage.kernels))
            raise EffkerasError(f"{self.group.name}: the op {op} has one kernel, not {kernels}")
        return stage

    def check(self, where: str) -> None:
        """Raises EffkerasError, which names `where`, for choices that this stage cannot have."""
        values = self.group.choices
        strides = 1 not in values.get("stride", (self.base.stride,))
        if strides and any(is_skipped(self.group.values(part)) for part in self.group.parts()):
            raise EffkerasError(
                f"{where}: a stage of stride 2 cannot be skipped, as all maps after it would be larger; "
                "leave out the op skip and 0 repeats"
            )
        ops = values.get("op", (_op_of(self.base),))
        expanding = [op for op in ops if op in _EXPANDING]
        if expanding and "expand" not in values and self.base.expand == 1:
            raise EffkerasError(
                f"{where}: the op {expanding[0]} needs the key 'expand': the base has none here"
            )

    def _outputs(self, values: Values, frame: Frame) -> int:
        outputs = values.get("outputs", self.base.outputs)
        return round_filters(int(outputs), frame.width, frame.network.round_limit)


def stage_choices(base: Stage, name: str, table: Table, where: str) -> StageChoices:
    """Reads the choices of a stage; drops those of `expand` if none of its ops expands.

    Raises EffkerasError, which names `where`, for invalid choices.
    """
    group = choices.read_group(name, table, STAGE_RULES, where)
    ops = group.choices.get("op", (_op_of(base),))
    if not any(op in _EXPANDING for op in ops):
        own = {key: values for key, values in group.choices.items() if key != "expand"}
        group = Group(name, own)
    stage = StageChoices(base, group)
    stage.check(where)
    return stage


@dataclass(frozen=True, slots=True)
class StageTable:
    """The blocks that every part of a genome builds in a stage, for one number of input channels.

    `problems` has the parts with conflicting choices, `blocks` all others. For a sequence of blocks, `lowest`
    has the lowest part that builds it, and `copies` the number of parts that do. `lengths` has all possible
    numbers of blocks.
    """

    blocks: Mapping[Genome, tuple[Built, ...]]
    problems: Mapping[Genome, str]
    lowest: Mapping[tuple[Built, ...], Genome]
    copies: Mapping[tuple[Built, ...], int]
    lengths: frozenset[int]


def stage_table(stage: StageChoices, inputs: int, frame: Frame) -> StageTable:
    """Builds every choice of a stage for `inputs` channels."""
    blocks: dict[Genome, tuple[Built, ...]] = {}
    problems: dict[Genome, str] = {}
    lowest: dict[tuple[Built, ...], Genome] = {}
    known: dict[Stage, tuple[Built, ...]] = {}
    for part in stage.group.parts():
        try:
            made = stage.made(part, inputs, frame)
        except EffkerasError as error:
            problems[part] = str(error)
            continue
        blocks[part] = _row(made, frame.network, known)
        lowest.setdefault(blocks[part], part)
    return StageTable(blocks, problems, lowest, Counter(blocks.values()), frozenset(map(len, lowest)))


def is_skipped(values: Mapping[str, Choice]) -> bool:
    """Whether these choices skip the stage."""
    return values.get("op") == SKIP or values.get("repeats") == 0


def _row(
    stage: Stage | None, network: BlockNetwork, known: dict[Stage, tuple[Built, ...]]
) -> tuple[Built, ...]:
    """The blocks of a stage; all except the first are equal, so it builds only one, cached in `known`."""
    if stage is None:
        return ()
    short = dataclasses.replace(stage, repeats=min(stage.repeats, 2))
    if short not in known:
        alone = dataclasses.replace(network, stem=stage.inputs, blocks=(encode(short),))
        known[short] = built(alone)
    return known[short][:1] + known[short][1:] * (stage.repeats - 1)


def _op_of(stage: Stage) -> str:
    kind = (stage.fused, stage.expand != 1)
    return next(op for op, which in _OPS.items() if which == kind)


def _kernels(kernel: Choice) -> tuple[int, ...]:
    return tuple(map(int, str(kernel).split(".")))
