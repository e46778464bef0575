"""Spaces in files, and an oracle for which networks are the same."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from pathlib import Path

from effkeras.graph.counting import CountingNet, Shape
from effkeras.graph.heads import classifier, detector
from effkeras.graph.vocabulary import Vocabulary
from effkeras.search.spaces.reading import read_space

BASE = """
[base]
base = "efficientnet-digits"

[base.network]
width = 1.0
stem = 8
head = 16
blocks = ["r1_k3_s1_e1_i8_o8", "r1_k3_s1_e2_i8_o8", "r1_k3_s2_e2_i8_o16"]
"""


@functools.cache
def shipped(name: str):
    """A space that comes with effkeras."""
    return read_space(name)


def space_from(folder: Path, text: str, name: str = "own"):
    """The space of a file with this text."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return read_space(path)


class RecordingNet(CountingNet):
    """Notes every operation with all that it is told."""

    def __init__(self):
        super().__init__()
        self.calls = []


def _recorded(method):
    def call(self, *args, **kwargs):
        self.calls.append((method, repr(args), repr(sorted(kwargs.items()))))
        return getattr(super(RecordingNet, self), method)(*args, **kwargs)

    return call


for _name in Vocabulary.__abstractmethods__ - {"size", "channels"}:
    setattr(RecordingNet, _name, _recorded(_name))


def operations(spec):
    """All operations of a model's graph, in order."""
    net = RecordingNet()
    graph = detector if spec.is_detector else classifier
    graph(net, Shape(*spec.input.size, 3), spec)
    return tuple(net.calls)


def raw_genomes(space):
    """Every genome that can be written down."""
    return itertools.product(*(range(len(gene.choices)) for gene in space.genes))


def by_network(space):
    """Valid raw genomes in ascending order by the operations of the network that they describe."""
    groups = defaultdict(list)
    for genome in raw_genomes(space):
        if not space.problem(genome):
            groups[operations(space._made(genome))].append(genome)  # not `spec`, which is canonical already
    return groups
