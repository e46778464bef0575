from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from support.handmade import Op, Tensor
from support.handmade import flatbuffer as made_of
from support.tiny_models import quantized, random_images, tiny_spec

from effkeras import EffkerasError
from effkeras.inference.predictor import open_predictor
from effkeras.litert import runner
from effkeras.litert.rewriting import attach
from effkeras.litert.runner import (
    DEFINITION,
    LiteRTModel,
    delegation,
    make_interpreter,
    quantized_pixels,
)
from effkeras.support.console import quiet

NAME = "efficientdet-lite0"


def test_a_file_is_a_predictor_with_its_definition(tmp_path):
    file = tmp_path / "net.tflite"
    file.write_bytes(quantized(NAME, "int8").flatbuffer)
    predictor = open_predictor(file)
    assert predictor.spec == tiny_spec(NAME)
    outputs = predictor(random_images(3))
    assert {name: values.shape[0] for name, values in outputs.items()} == {"class_logits": 3, "box_deltas": 3}
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_images_side_by_side_have_the_bits_of_images_alone(monkeypatch, io):
    monkeypatch.setattr(runner, "cores", lambda: 3)
    model, images = LiteRTModel.of_bytes(quantized(NAME, "int8", io).flatbuffer), random_images(7)
    assert len(model._side_by_side) == 3
    together, alone = model(images), [model(image[None]) for image in images]
    for name, values in together.items():
        np.testing.assert_array_equal(values, np.concatenate([one[name] for one in alone]))


@pytest.mark.parametrize("threads", [1, 2])
def test_xnnpack_and_plain_kernels_agree(threads):
    flatbuffer = quantized(NAME, "float32").flatbuffer
    fast = LiteRTModel.of_bytes(flatbuffer, threads=threads)(random_images(1))
    plain = LiteRTModel.of_bytes(flatbuffer, threads=threads, xnnpack=False)(random_images(1))
    for name, values in fast.items():
        np.testing.assert_allclose(values, plain[name], atol=1e-4 * values.std())


def test_a_file_for_an_edge_tpu_is_told_apart_from_a_damaged_one(tmp_path):
    compiled = made_of(Op("edgetpu-custom-op", [Tensor((1, 8, 8, 3))], [Tensor((1, 3))]))
    file = tmp_path / "net.tflite"
    file.write_bytes(attach(compiled, DEFINITION, tiny_spec(NAME).to_toml().encode()))
    with pytest.raises(EffkerasError, match=r"net.tflite: .*Edge TPU.*; give the file that it was compiled"):
        LiteRTModel.open(file)
    with pytest.raises(EffkerasError, match="LiteRT refuses the"):
        make_interpreter(made_of(Op("Somebodys", [Tensor((1, 8, 8, 3))], [Tensor((1, 3))])))


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError(), "does not fit into memory; use a smaller input size"),  # all that LiteRT says of it
        (RuntimeError("node 3 failed to prepare"), r"refuses the .tflite \(node 3 failed to prepare\)"),
    ],
)
def test_want_of_memory_is_told_apart_from_what_litert_refuses(monkeypatch, raised, said):
    from ai_edge_litert.interpreter import Interpreter

    def fails(self):
        raise raised

    flatbuffer = quantized(NAME, "float32").flatbuffer
    monkeypatch.setattr(Interpreter, "allocate_tensors", fails)
    with pytest.raises(EffkerasError, match=said):
        make_interpreter(flatbuffer)


def test_pixels_in_each_input_format():
    pixels = np.array([-3.0, 0.0, 0.6, 127.0, 255.0, 300.0], np.float32)
    assert quantized_pixels(pixels, np.float32) is pixels
    assert quantized_pixels(pixels, np.uint8).tolist() == [0, 0, 1, 127, 255, 255]
    assert quantized_pixels(pixels, np.int8).tolist() == [-128, -128, -127, -1, 127, 127]


@pytest.mark.parametrize(("recipe", "io"), [("float32", "float32"), ("dynamic", "float32"), ("int8", "int8")])
def test_xnnpack_takes_the_whole_graph(recipe, io):
    model = LiteRTModel.of_bytes(quantized(NAME, recipe, io).flatbuffer)
    share = model.delegated()
    assert (share.delegated_ops, share.partitions) == (share.total_ops, 1)
    assert share.share == 1


def test_plain_kernels_delegate_nothing():
    model = LiteRTModel.of_bytes(quantized(NAME, "float32").flatbuffer, xnnpack=False)
    assert (model.delegated().delegated_ops, model.delegated().partitions) == (0, 0)


def test_an_operator_that_xnnpack_lacks_splits_the_graph():
    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 4))])
    def call(x):
        y = tf.nn.relu6(x * 2.0 + 1.0)
        return tf.nn.relu6(tf.cumsum(y, axis=1) * 3.0) + 1.0

    with quiet():
        flatbuffer = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()]).convert()
    share = delegation(make_interpreter(flatbuffer), flatbuffer)
    assert share.partitions == 2
    assert share.delegated_ops == share.total_ops - 1  # all but CUMSUM


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EffkerasError, match=r"nosuch\.tflite"):
        LiteRTModel.open(tmp_path / "nosuch.tflite")


def test_a_corrupt_file_is_named(tmp_path):
    file = tmp_path / "broken.tflite"
    file.write_bytes(b"\0\0\0\0TFL3" + b"\0" * 99)
    with pytest.raises(EffkerasError, match=r"broken\.tflite"):
        LiteRTModel.open(file)


def test_files_of_others_are_refused():
    flatbuffer = quantized(NAME, "float32").flatbuffer.replace(DEFINITION.encode(), b"x" * len(DEFINITION))
    with pytest.raises(EffkerasError, match="not exported by effkeras"):
        LiteRTModel.of_bytes(flatbuffer)


@pytest.mark.parametrize("definition", [b"\xff\xfe", b"name = ", b"name = 'x'"])
def test_a_damaged_definition_is_refused(definition):
    flatbuffer = attach(quantized(NAME, "float32").flatbuffer, DEFINITION, definition)
    with pytest.raises(EffkerasError, match="definition"):
        LiteRTModel.of_bytes(flatbuffer)
