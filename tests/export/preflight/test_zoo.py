"""What the devices make of the zoo's models."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.handmade import flatbuffer
from support.op_cases import concatenation, conv, image, reduction
from support.tiny_models import quantized, randomize

import effkeras
from effkeras import EffkerasError
from effkeras.litert.edge_tpu import for_edge_tpu
from effkeras.litert.nodes import nodes
from effkeras.litert.runner import LiteRTModel
from export.preflight import Preflight, check_for
from export.preflight.judgement import partitions
from quantize.post_training.quantization import ptq

# EfficientDet-Lite0 as Google exports it, in the log of edgetpu_compiler 16: all that is mapped, but the
# sigmoid at its end and the input's QUANTIZE, which are not in ours.
GOOGLES_LITE0 = {
    "ADD": 42,
    "CONCATENATION": 2,
    "CONV_2D": 102,
    "DEPTHWISE_CONV_2D": 80,
    "MAX_POOL_2D": 14,
    "RESHAPE": 10,
    "RESIZE_NEAREST_NEIGHBOR": 12,
}


def built(name: str, size: int) -> bytes:
    """A model with random weights in 8 bits, as a Coral board takes it."""
    model = effkeras.build(name, input_shape=(size, size, 3))
    randomize(model)
    random = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    return for_edge_tpu(ptq(model, "int8", random, io="uint8").flatbuffer)


@pytest.mark.parametrize("name", ["efficientdet-lite0", "efficientnet-lite0"])
def test_lite_models_map(name):
    found = check_for(for_edge_tpu(quantized(name, "int8", "uint8").flatbuffer), "edgetpu")
    assert (found.passed, found.mac_share, found.doubts, found.pieces) == (True, 1, (), 1)
    assert found.memory.streamed == 0


@pytest.mark.parametrize("name", ["efficientdet-lite0", "efficientnet-lite0"])
def test_float_edges_are_left_to_the_cpu(name):
    found = check_for(quantized(name, "int8").flatbuffer, "edgetpu")
    assert not found.passed
    assert "takes float32" in found.verdicts[0].why
    assert found.end.op in ("DEQUANTIZE", "FULLY_CONNECTED")
    assert "--io uint8" in found.advice[0]


def test_a_scale_per_channel_of_the_last_layer_is_told():
    found = check_for(quantized("efficientnet-lite0", "int8", "uint8").flatbuffer, "edgetpu")
    assert found.end.op == "FULLY_CONNECTED"
    assert found.advice == ("export with --for coral, which writes it as a convolution",)


def test_partitions_are_those_that_litert_cuts():
    """XNNPACK leaves RESIZE_NEAREST_NEIGHBOR alone: as many pieces as LiteRT then hands to it."""
    content = for_edge_tpu(quantized("efficientdet-lite0", "int8", "int8").flatbuffer)
    graph = nodes(content)
    pieces = partitions(graph, [node.name != "RESIZE_NEAREST_NEIGHBOR" for node in graph])
    delegated = LiteRTModel.of_bytes(content).delegated()
    assert sum(piece.taken for piece in pieces) == delegated.partitions > 1
    assert sum(len(piece.operators) for piece in pieces if piece.taken) == delegated.delegated_ops


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("efficientdet-lite0", 320, marks=pytest.mark.slow),
        pytest.param("efficientnet-lite1", 64, marks=pytest.mark.slow),
        *(
            pytest.param(name, size, marks=pytest.mark.nightly("zoo"))
            for name, size in (
                ("efficientdet-lite1", 128),
                ("efficientdet-lite2", 128),
                ("efficientdet-lite3", 128),
                ("efficientdet-lite4", 128),
                ("efficientnet-lite2", 64),
                ("efficientnet-lite3", 64),
                ("efficientnet-lite4", 64),
            )
        ),
    ],
)
def test_all_lite_models_map(name, size):
    content = built(name, size)
    found = check_for(content, "edgetpu")
    assert (found.passed, found.mac_share) == (True, 1), found.summary()
    if size == 320:
        counts = Counter(one.op for one in found.verdicts)
        del counts["QUANTIZE"]
        assert counts == GOOGLES_LITE0


@pytest.mark.nightly("zoo")
def test_d0_ends_at_its_first_gate():
    """Its squeeze-and-excitation averages over 256 x 256 positions."""
    found = check_for(built("efficientdet-d0", 512), "edgetpu")
    assert (found.passed, found.end.op) == (False, "MEAN")
    assert "65,536 positions" in found.end.why
    assert found.mac_share < 0.05
    assert "squeeze-and-excitation" in found.advice[0]


SMALL = flatbuffer(
    conv(),
    reduction("MEAN", [1, 2]),
    concatenation(image(), image()),
)


def judged_or_refused(content: bytes) -> None:
    """Nothing but a verdict or an error, for both devices."""
    for target in ("edgetpu", "gpu"):
        with contextlib.suppress(EffkerasError):
            assert isinstance(check_for(content, target), Preflight)
    with contextlib.suppress(EffkerasError):
        assert for_edge_tpu(content)


@given(st.integers(0, len(SMALL)))
@settings(max_examples=60)
def test_files_cut_short(length):
    judged_or_refused(SMALL[:length])


@given(st.lists(st.tuples(st.integers(8, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files(changes):
    damaged = bytearray(SMALL)
    for position, value in changes:
        damaged[position] = value
    judged_or_refused(bytes(damaged))
