"""Search spaces of detectors such as EfficientDet (arXiv:1911.09070).

    kind = "detector"
    base = "efficientdet-lite0"
    backbone = ["efficientnet-lite0", "efficientnet-lite1"]
    size = [256, 320]

    [fpn]
    channels = [48, 64, 88]
    cells = [2, 3, 4]

    [head]
    repeats = [2, 3]

A list is a gene, a scalar is fixed, and a missing key keeps the value of the base. `size` is the side of the
image in pixels; the pyramid has the levels 3 to `last_level`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from effkeras.definitions.definition import ModelSpec, detector_parts
from effkeras.search.genomes import Choice, Genome
from effkeras.search.spaces import choices
from effkeras.search.spaces.choices import Rules, Values, read_group
from effkeras.search.spaces.toml_space import SpaceFile, TomlSpace, sized
from effkeras.support.errors import EffkerasError

_LAST_LEVEL = "last_level"
NETWORK_RULES: Rules = {"backbone": choices.TEXT, "size": choices.COUNT}
_FPN_RULES: Rules = {
    "channels": choices.COUNT,
    "cells": choices.COUNT,
    "fusion": choices.one_of(("fast", "sum")),
    "activation": choices.ACTIVATION,
    _LAST_LEVEL: choices.Rule("5, 6, 7 or 8", lambda value: type(value) is int and 5 <= value <= 8),
}
_HEAD_RULES: Rules = {"repeats": choices.COUNT_OR_NONE}
_ANCHOR_RULES: Rules = {"scale": choices.FACTOR, "octaves": choices.COUNT}
_TABLES = {"fpn": _FPN_RULES, "head": _HEAD_RULES, "anchors": _ANCHOR_RULES}


@dataclass(frozen=True)
class DetectorSpace(TomlSpace):
    """A space of detectors; its groups are the network and the tables fpn, head and anchors.

    `backbones` has the base definition with each backbone, by name.
    """

    backbones: Mapping[str, ModelSpec]

    def canonical(self, genome: Genome) -> Genome:
        """The genome itself, because every gene has an effect."""
        return genome

    def problem(self, genome: Genome) -> str:
        """Always "": every genome is valid."""
        return ""

    def copies(self, genome: Genome) -> int:
        """Always 1: no two genomes describe the same detector."""
        return 1

    def encode(self, spec: ModelSpec) -> Genome | None:
        """The genome of a detector with the same network, size, fpn, head and anchors, or None."""
        if not spec.is_detector:
            return None
        for part in self.groups[0].parts():
            based = self._based(self.groups[0].values(part))
            if based.network == spec.network and based.input.size == spec.input.size:
                return self._figures(part, spec)
        return None

    def _figures(self, part: Genome, spec: ModelSpec) -> Genome | None:
        """The genome with this part for the network, and a detector's fpn, head and anchors, or None."""
        genome: Genome = part
        for group in self.groups[1:]:
            own = group.part_of(_values(spec, group.name))
            if own is None:
                return None
            genome += own
        made = self._made(genome)
        same = (made.fpn, made.head, made.anchors) == (spec.fpn, spec.head, spec.anchors)
        return genome if same else None

    def _made(self, genome: Genome) -> ModelSpec:
        network, *parts = self._parts(genome)
        spec = self._based(self.groups[0].values(network))
        changes: dict[str, Any] = {}
        for group, part in zip(self.groups[1:], parts, strict=True):
            record = getattr(detector_parts(spec), group.name)
            changes[group.name] = dataclasses.replace(record, **_fields(group.values(part)))
        return spec.replace(**changes)

    def _based(self, values: Values) -> ModelSpec:
        spec = self.backbones[str(values["backbone"])] if "backbone" in values else self.base
        return spec.replace(input=sized(spec, values.get("size")))


def read_detector(file: SpaceFile) -> DetectorSpace:
    """Reads a space of detectors from a file.

    Raises EffkerasError for a base that is not a detector, and for invalid keys and choices.
    """
    file.check_keys((*NETWORK_RULES, *_TABLES))
    if not file.base.is_detector:
        raise EffkerasError(f"{file.path}: {file.base.name} is no detector; choose an EfficientDet as base")
    file.check_widths()
    own = read_group("", file.part(*NETWORK_RULES), NETWORK_RULES, str(file.path))
    groups = (
        read_group(name, file.subtable(name), rules, f"{file.path}: [{name}]")
        for name, rules in _TABLES.items()
    )
    return DetectorSpace(file, (own, *groups), _backbones(file, own.choices.get("backbone", ())))


def _backbones(file: SpaceFile, names: Sequence[Choice]) -> dict[str, ModelSpec]:
    bases: dict[str, ModelSpec] = {}
    for name in map(str, names):
        spec = _with_backbone(file, name)
        for other, known in bases.items():
            if known.network == spec.network:
                raise EffkerasError(f"{file.path}: backbone lists one network twice: {other!r} and {name!r}")
        bases[name] = spec
    return bases


def _with_backbone(file: SpaceFile, name: str) -> ModelSpec:
    try:
        return file.based(backbone=name)
    except EffkerasError as error:
        raise EffkerasError(f"{file.path}: backbone {name!r}: {error}") from error


def _fields(values: Values) -> dict[str, Any]:
    """Converts choices to the fields of a definition's table."""
    fields: dict[str, Any] = {key: value for key, value in values.items() if key != _LAST_LEVEL}
    return fields | ({"levels": (3, values[_LAST_LEVEL])} if _LAST_LEVEL in values else {})


def _values(spec: ModelSpec, name: str) -> dict[str, Any]:
    """Converts a definition's table to choices."""
    record = getattr(detector_parts(spec), name)
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return values | ({_LAST_LEVEL: values["levels"][1]} if name == "fpn" else {})
