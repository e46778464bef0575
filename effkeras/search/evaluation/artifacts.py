"""Converts candidates and their blocks to .tflite, and times them.

The weights are random: a trained file has the same size and speed. `write_table` times every block of a
space as a separate network; `check_table` compares sums of blocks with whole networks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from effkeras.building.models import build_spec
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.keras_net import KerasNet
from effkeras.graph.mbconv import mbconv
from effkeras.graph.networks.blocks import BlockNetwork
from effkeras.layers import Normalize
from effkeras.litert.convert import INPUT, plain_int8, to_flatbuffer, traced_call
from effkeras.litert.flatbuffer import multiply_adds, operators
from effkeras.litert.latency import InterpreterOptions, Plan, measure_all
from effkeras.litert.rewriting import name_interface
from effkeras.search.evaluation.block_tables import (
    HEAD,
    KERNELS,
    STEM,
    Place,
    TableCheck,
    distinct,
    predicted_ms,
)
from effkeras.search.evaluation.settings import ArtifactSettings
from effkeras.support import results
from effkeras.support.console import quiet, track
from effkeras.support.measurements import BlockLatency, BlockShape, BlockTable, write_blocks

Precision = Literal["float32", "int8"]


def artifact_of(spec: ModelSpec, precision: Precision) -> bytes:
    """Builds and converts a model; equal definitions give equal files.

    Raises EffkerasError for a definition that cannot be built.
    """
    keras.utils.set_random_seed(0)
    return converted(build_spec(spec), precision)


def converted(model: keras.Model, precision: Precision) -> bytes:
    """Converts a model to .tflite; "int8" also quantizes inputs and outputs, and calibrates on noise."""
    return to_flatbuffer(model) if precision == "float32" else _int8(model)


def median_ms(flatbuffers: Sequence[bytes], settings: ArtifactSettings) -> list[float]:
    """The median milliseconds of one inference of each file with XNNPACK; the files take turns."""
    options = InterpreterOptions(xnnpack=True, threads=settings.threads)
    plan = Plan(settings.runs, max(1, settings.runs // 5))
    return [one.typical_ms for one in measure_all([(file, options) for file in flatbuffers], plan)]


def _int8(model: keras.Model) -> bytes:
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter warns of missing quantization statistics
        traced, names = traced_call(model)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
        converter.inference_input_type = converter.inference_output_type = tf.int8
        content = plain_int8(converter, _noise(model.input_shape[1:]))
    return name_interface(content, [INPUT], names)


def _noise(shape: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(0, 255, (1, *shape)).astype(np.float32) for _ in range(2)]


def write_table(path: Path, specs: Iterable[ModelSpec], settings: ArtifactSettings, name: str) -> BlockTable:
    """Times every piece of some networks on this machine and writes the table.

    Args:
        path: a TOML file; it is written completely or not at all.
        specs: networks that together have all blocks of the space, with the size and classes of the data.
        settings: precision, threads and runs.
        name: the name of the space.

    Raises:
        EffkerasError: a network is not a classifier of MBConv blocks, or the file cannot be written.
    """
    table = time_pieces(distinct(specs), settings, name)
    write_blocks(path, table)
    return table


def time_pieces(places: Sequence[Place], settings: ArtifactSettings, name: str) -> BlockTable:
    """Builds, converts and times pieces; see `write_table`."""
    names = [_name(place, index) for index, place in enumerate(places)]
    files = [_file(place, settings.precision) for place in track(places, "converting blocks")]
    options = InterpreterOptions(xnnpack=True, threads=settings.threads)
    plan = Plan(settings.runs, max(1, settings.runs // 5))
    timed = measure_all([(file, options) for file in files], plan, "timing blocks")
    environment = results.environment()
    return BlockTable(
        name,
        f"{len(places)} blocks, {settings.precision}",
        {KERNELS: environment["machine"]["cpu"]},
        {"python": environment["python"], **environment["versions"]},
        settings.runs,
        tuple(map(_shape, names, places, files)),
        tuple(map(BlockLatency.of, names, timed)),
    )


def piece_model(place: Place) -> keras.Model:
    """A piece as a separate model, with random weights."""
    x = keras.Input(place.piece.inputs[1:], name="image")
    return keras.Model(x, _graph(x, place), name="piece")


def _graph(x: Any, place: Place) -> Any:
    net, network = KerasNet(), BlockNetwork.match(place.spec.network)
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


def check_table(table: BlockTable, specs: Sequence[ModelSpec], settings: ArtifactSettings) -> TableCheck:
    """Measures whole networks, which take turns, and compares them with the table's predictions.

    Raises EffkerasError when the table lacks one of their blocks.
    """
    predicted = tuple(predicted_ms(spec, table, settings.threads) for spec in specs)
    measured = median_ms([artifact_of(spec, settings.precision) for spec in specs], settings)
    return TableCheck(tuple(spec.name for spec in specs), predicted, tuple(measured))
