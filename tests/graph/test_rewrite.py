"""The rewrite engine: what is planned changes, all else stays, and the original is untouched."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.tiny_models import keras_outputs, random_images, tiny_model

from effkeras import EffkerasError
from effkeras.graph.rewrite import Graph, flat, key, passed_on, renewed, rewrite, with_weights


def small() -> keras.Model:
    x = image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(x)
    kept = keras.layers.Activation("relu", name="act")(x)
    return keras.Model(image, {"out": keras.layers.Conv2D(4, 3, name="last")(kept), "act": kept})


def one_image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")


def test_an_empty_plan_gives_an_equal_copy():
    model = tiny_model("efficientdet-d0")
    copy = rewrite(Graph.of(model), {})
    assert copy is not model
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    wanted, got = keras_outputs(model, random_images(2)), keras_outputs(copy, random_images(2))
    assert list(wanted) == list(got)
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-5)
    copy.layers[2].set_weights([weight * 0 for weight in copy.layers[2].get_weights()])
    assert any(np.any(weight) for weight in model.layers[2].get_weights())


def test_a_stand_in_takes_the_place_of_its_call_only():
    model = small()
    graph = Graph.of(model)
    (act,) = (call for call in graph.calls if call.operation.name == "act")
    changed = rewrite(graph, {key(act): keras.layers.Activation("tanh", name="act")})
    expected = np.tanh(model.get_layer("conv")(one_image()))
    np.testing.assert_allclose(changed(one_image())["act"], expected, rtol=1e-5, atol=1e-6)


def test_a_call_can_vanish():
    model = small()
    graph = Graph.of(model)
    (act,) = (call for call in graph.calls if call.operation.name == "act")
    changed = rewrite(graph, {key(act): passed_on})
    assert "act" not in {layer.name for layer in changed.layers}
    np.testing.assert_allclose(changed(one_image())["act"], model.get_layer("conv")(one_image()), rtol=1e-5)


def test_new_layers_get_their_weights():
    model = small()
    graph = Graph.of(model)
    (conv,) = (call for call in graph.calls if call.operation.name == "conv")
    layer = renewed(conv.operation, use_bias=False)
    changed = rewrite(graph, {key(conv): with_weights(layer, np.ones((3, 3, 3, 4)))})
    assert len(changed.get_layer("conv").weights) == 1
    np.testing.assert_array_equal(changed.get_layer("conv").kernel, 1)


def test_neighbours_are_known():
    graph = Graph.of(small())
    by_name = {call.operation.name: call for call in graph.calls}
    assert graph.only_user(by_name["conv"]) is by_name["act"]
    assert graph.only_user(by_name["act"]) is None  # it is an output too
    assert graph.maker(by_name["last"].inputs[0]) is by_name["act"]
    assert graph.is_output(by_name["last"].outputs[0])
    assert [user.operation.name for user in graph.users(by_name["image"].outputs[0])] == ["conv"]


def test_nested_models_become_flat_with_their_weights():
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1, name="conv")], name="inner")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.ReLU(name="relu")(inner(image)))
    without = flat(model)
    assert [layer.name for layer in without.layers][1:] == ["inner_conv", "relu"]
    np.testing.assert_allclose(without(one_image()), model(one_image()), rtol=1e-5)
    assert flat(without) is without


def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(EffkerasError, match="not functional"):
        Graph.of(Own())
