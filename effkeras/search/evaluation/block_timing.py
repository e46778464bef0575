"""Makes a table of block latencies: every block of a space as a network of its own, timed in turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from effkeras.definitions.definition import ModelSpec
from effkeras.graph.keras_net import KerasNet
from effkeras.graph.mbconv import mbconv
from effkeras.graph.networks.blocks import BlockNetwork
from effkeras.layers import Normalize
from effkeras.litert.block_latency import BlockLatency, BlockShape, BlockTable, write_blocks
from effkeras.litert.costs import multiply_adds
from effkeras.litert.flatbuffer import operators
from effkeras.litert.latency import Latency, Plan, Setting, measure_all
from effkeras.search.evaluation.artifacts import Precision, converted
from effkeras.search.evaluation.block_tables import HEAD, KERNELS, STEM, Place, distinct
from effkeras.search.evaluation.settings import ArtifactSettings
from effkeras.support import results
from effkeras.support.console import track


def write_table(path: Path, specs: Iterable[ModelSpec], settings: ArtifactSettings, name: str) -> BlockTable:
    """Times every piece of some networks on this machine and writes the table.

    Args:
        path: a TOML file; it appears whole or not at all.
        specs: networks that together have all blocks of the space, at the size and classes of the data.
        settings: precision, threads and runs.
        name: of the space.

    Raises:
        EffkerasError: a network that is no classifier of MBConv blocks, or a file that cannot be written.
    """
    table = time_pieces(distinct(specs), settings, name)
    write_blocks(path, table)
    return table


def time_pieces(places: Sequence[Place], settings: ArtifactSettings, name: str) -> BlockTable:
    """Builds, converts and times pieces; see `write_table`."""
    names = [_name(place, index) for index, place in enumerate(places)]
    files = [_file(place, settings.precision) for place in track(places, "converting blocks")]
    setting = Setting(xnnpack=True, threads=settings.threads)
    plan = Plan(settings.runs, max(1, settings.runs // 5))
    timed = measure_all([(file, setting) for file in files], plan, "timing blocks")
    environment = results.environment()
    return BlockTable(
        name,
        f"{len(places)} blocks, {settings.precision}",
        {KERNELS: environment["machine"]["cpu"]},
        {"python": environment["python"], **environment["versions"]},
        settings.runs,
        tuple(map(_shape, names, places, files)),
        tuple(map(_latency, names, timed)),
    )


def piece_model(place: Place) -> keras.Model:
    """A piece as a model of its own, with random weights."""
    x = keras.Input(place.piece.inputs[1:], name="image")
    return keras.Model(x, _graph(x, place), name="piece")


def _graph(x: Any, place: Place) -> Any:
    net, network = KerasNet(), BlockNetwork.of(place.spec.network)
    assert network is not None  # `places_of` has checked it
    if place.block is not None:
        return mbconv(net, x, place.block, network.style)
    if len(place.piece.outputs) == 4:
        normal = Normalize(place.spec.input.mean, place.spec.input.std)(x)
        return network.stem_features(net, normal)
    return net.activation(network.logits(net, x, place.spec.classes), "probabilities", "softmax")


def _name(place: Place, index: int) -> str:
    end = STEM if len(place.piece.outputs) == 4 else HEAD
    return f"{index}.{place.block.name if place.block else end}"


def _file(place: Place, precision: Precision) -> bytes:
    model = converted(piece_model(place), precision)
    keras.backend.clear_session()
    return model


def _shape(name: str, place: Place, file: bytes) -> BlockShape:
    graph, piece = operators(file), place.piece
    macs = sum(map(multiply_adds, graph))
    dtype = graph[-1].outputs[0].dtype
    return BlockShape(name, dtype, (piece.inputs,), (piece.outputs,), len(graph), macs, piece.stage)


def _latency(name: str, one: Latency) -> BlockLatency:
    return BlockLatency(
        name, KERNELS, one.setting.threads, one.min_ms, one.mean_ms, one.median_ms, one.p95_ms
    )
