from __future__ import annotations

import keras
import pytest
from support.tiny_models import quantized, tiny_spec

from effkeras.litert.convert import to_flatbuffer
from effkeras.litert.nodes import nodes
from effkeras.litert.runner import LiteRTModel
from export.consumers.finishing import Finish
from export.consumers.target import target_for
from export.metadata import read
from quantize.formats import find as recipe

DETECTOR = "efficientdet-lite0"
CLASSIFIER = "efficientnet-lite0"


def finish(name: str, consumer: str, made_as: str = "int8", io: str | None = None) -> Finish:
    return Finish(tiny_spec(name), target_for(consumer, recipe(made_as), io).fitting(tiny_spec(name)))


@pytest.mark.parametrize("name", [DETECTOR, CLASSIFIER])
@pytest.mark.parametrize("consumer", ["mediapipe", "coral", "xnnpack", "raw"])
def test_lite_models_in_int8_suit_everyone(name, consumer):
    made = finish(name, consumer)
    network = made.network(quantized(name, "int8", made.target.io).flatbuffer)
    assert made.problems(network) == ()
    artifact = made(network)
    said = read(artifact)
    assert len(said.outputs) == (1 if name == CLASSIFIER else 4 if consumer in ("mediapipe", "coral") else 2)
    assert LiteRTModel.of_bytes(artifact).spec == tiny_spec(name)


@pytest.mark.parametrize(("made_as", "io"), [("float32", "float32"), ("int8", "int8")])
def test_xnnpack_runs_a_detector_in_one_piece(made_as, io):
    network = quantized(DETECTOR, made_as, io).flatbuffer
    assert finish(DETECTOR, "xnnpack", made_as, io).problems(network) == ()


def test_only_for_xnnpack_a_large_map_is_computed_in_row_tiles():
    pixels = keras.Input((160, 160, 8))
    wide = keras.layers.Conv2D(96, 1, activation="relu")(pixels)
    content = to_flatbuffer(keras.Model(pixels, keras.layers.DepthwiseConv2D(3, 2)(wide)))
    operators = {who: len(nodes(finish(CLASSIFIER, who).network(content))) for who in ("raw", "xnnpack")}
    assert operators == {"raw": 2, "xnnpack": 4 * 3 + 1}


def test_what_an_edge_tpu_does_not_run_is_a_problem_with_its_reason():
    (problem,) = finish(DETECTOR, "coral").problems(quantized(DETECTOR, "float32").flatbuffer)
    assert problem.startswith("an Edge TPU does not run the whole network, but 0 of ")
    assert "ends at" in problem


def test_layers_left_in_float_would_stop_an_edge_tpu():
    assert not finish(DETECTOR, "coral").takes_mixed
    assert finish(DETECTOR, "mediapipe").takes_mixed
