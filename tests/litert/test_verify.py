"""Damaged .tflite files are refused by everything that reads them, before anything is followed."""

from __future__ import annotations

import time
from collections import Counter

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from fuzz import checks
from support.mutations import KINDS, mutations, outcome, places_of
from support.small_tflite import small_tflite
from support.tiny_models import CLASSIFIERS, DETECTORS, quantized

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import operators
from effkeras.litert.runner import make_interpreter
from effkeras.litert.verify import verified

COUNT = 120


@pytest.mark.parametrize("name", [pytest.param(DETECTORS[0], marks=pytest.mark.slow), CLASSIFIERS[0]])
@pytest.mark.parametrize("recipe", ["fp16", "int8"])
def test_sound_files_pass(name, recipe):
    flatbuffer = quantized(name, recipe).flatbuffer
    record = verified(flatbuffer)
    parsed = flatbuffer_utils.read_model_from_bytearray(flatbuffer)
    graph, theirs = record["subgraphs"][0], parsed.subgraphs[0]
    assert len(graph["tensors"]) == len(theirs.tensors)
    assert [op["outputs"].tolist() for op in graph["operators"]] == [op.outputs for op in theirs.operators]
    assert [one["name"] for one in graph["tensors"]] == [one.name.decode() for one in theirs.tensors]


def test_damaged_files_are_refused_or_read_but_nothing_else():
    model = small_tflite()
    ends: Counter = Counter()
    for name, damaged in mutations(model, COUNT):
        for check, run in checks(model).items():
            started = time.monotonic()
            try:
                ends[outcome(run, damaged)] += 1
            except Exception as error:
                raise AssertionError(f"{check} of {name}: {error!r}") from error
            assert time.monotonic() - started < 10, f"{check} of {name}"
    assert ends["refused"] > ends["read"] > 0


def test_mutations_are_the_same_in_every_run_and_hit_the_structure():
    model = small_tflite()
    assert list(mutations(model, 14)) == list(mutations(model, 14))
    assert {name.rpartition(" ")[0] for name, _ in mutations(model, len(KINDS))} == set(KINDS)
    assert len(places_of(model)) > 500


def edited(change) -> bytes:
    """The small file after a change to what it says."""
    parsed = flatbuffer_utils.read_model_from_bytearray(small_tflite())
    change(parsed)
    builder = flatbuffers.Builder()
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def first_weights(model):
    graph = model.subgraphs[0]
    return graph.tensors[graph.operators[0].inputs[1]]


def set_to(path: str, value):
    """A change that sets an attribute, such as "subgraphs.0.tensors.1.buffer"."""

    def change(model):
        *way, last = path.split(".")
        for step in way:
            model = model[int(step)] if step.isdigit() else getattr(model, step)
        setattr(model, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_to("subgraphs", []), "no graph"),
        (set_to("subgraphs.0.operators.0.opcodeIndex", 99), "no operator 99"),
        (set_to("subgraphs.0.operators.0.inputs", [0, 9999, 1]), "no tensor 9999"),
        (set_to("subgraphs.0.operators.0.outputs", [-2]), "no tensor -2"),
        (set_to("subgraphs.0.outputs", [-1]), "no tensor -1"),
        (set_to("subgraphs.0.tensors.0.buffer", 4096), "no buffer 4096"),
        (set_to("subgraphs.0.tensors.0.shape", [1, -32, 32, 3]), "negative"),
        (set_to("subgraphs.0.tensors.0.shape", [1 << 20, 1 << 20, 3]), "larger"),
        (set_to("metadata.0.buffer", 1 << 31), "no buffer"),
        (set_to("signatureDefs.0.subgraphIndex", 3), "no graph 3"),
        (set_to("signatureDefs.0.inputs.0.tensorIndex", 7777), "no tensor 7777"),
        (lambda model: setattr(first_weights(model), "shape", [3, 3]), "bytes has"),
        (lambda model: setattr(first_weights(model).quantization, "quantizedDimension", 9), "channel"),
        (lambda model: setattr(first_weights(model).quantization, "zeroPoint", [0, 0, 0]), "zero points"),
    ],
)
def test_indices_and_sizes_must_make_sense(change, message):
    with pytest.raises(EffkerasError, match=message):
        verified(edited(change))


def test_weights_behind_the_flatbuffer_must_be_in_the_file():
    def outside(model):
        model.buffers[-1] = schema.BufferT(offset=1 << 40, size=1 << 40)

    with pytest.raises(EffkerasError, match="outside"):
        verified(edited(outside))


def test_weights_behind_the_flatbuffer_may_not_be_shared_without_end():
    def shared(model):
        model.buffers += [schema.BufferT(offset=8, size=4096) for _ in range(100)]

    with pytest.raises(EffkerasError, match="share"):
        verified(edited(shared))


def test_the_interpreter_never_sees_a_damaged_file():
    with pytest.raises(EffkerasError, match="no tensor 9999"):
        make_interpreter(edited(set_to("subgraphs.0.operators.0.inputs", [0, 9999, 1])))


def test_a_bytearray_is_as_good():
    assert operators(bytearray(small_tflite())) == operators(small_tflite())


def test_the_record_is_that_of_the_file():
    record = verified(small_tflite())
    assert record["version"] == 3
    assert record["subgraphs"][0]["tensors"][0]["shape"].dtype == np.int32
    assert record["subgraphs"][0]["operators"][0]["builtin_options"][0] == "Conv2DOptions"
