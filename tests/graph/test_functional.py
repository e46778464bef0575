"""Copies of functional models: flat, renamed, with the original's sharing and, on request, weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from effkeras.graph.functional import CopyRules, Part, calls_of, copy_onto, layer_path, output_of, whole_model
from effkeras.support.errors import EffkerasError

L = keras.layers


def nested() -> keras.Model:
    """A model with a shared layer, a Sequential, a functional model in it, and operations."""
    inner_in = keras.Input((8, 8, 4))
    inner = keras.Model(
        inner_in, {"a": L.Conv2D(4, 1, name="c")(inner_in) * 2.0, "b": inner_in}, name="inner"
    )
    stack = keras.Sequential([L.Conv2D(4, 3, padding="same", name="c"), L.ReLU(name="r")], name="stack")
    shared = L.Conv2D(4, 1, name="shared")
    x = keras.Input((8, 8, 4), name="theirs")
    maps = inner(stack(shared(x)))
    y = L.Add(name="sum")([shared(maps["a"]), maps["b"]])
    return keras.Model(x, [y, L.Conv2D(2, 1, name="unused")(y)], name="outer")


def copied(model: keras.Model, rules: CopyRules, ends=None) -> keras.Model:
    x = keras.Input(model.inputs[0].shape[1:], name="ours")
    part = whole_model(model) if ends is None else Part(model, model.inputs[0], ends)
    return keras.Model(x, copy_onto(x, part, rules))


def pixels() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)


def test_a_copy_is_flat_and_computes_the_same():
    model = nested()
    copy = copied(model, CopyRules(weights=True))
    names = {layer.name for layer in copy.layers}
    assert {"stack_c", "stack_r", "inner_c", "shared", "sum"} <= names
    assert not any(isinstance(layer, keras.Model) for layer in copy.layers)
    for ours, theirs in zip(copy(pixels()), model(pixels()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_layer_called_twice_is_copied_once():
    model = nested()
    copy = copied(model, CopyRules())
    assert copy.count_params() == model.count_params()
    assert sum(call.operation.name == "shared" for call in calls_of(copy)) == 2


def test_a_copy_shares_nothing_with_its_original():
    model = nested()
    before = model.get_weights()
    nodes = len(model.get_layer("sum")._inbound_nodes)
    copy = copied(model, CopyRules(weights=True))
    copy.set_weights([weight + 1 for weight in copy.get_weights()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(model.get_layer("sum")._inbound_nodes) == nodes


def test_what_leads_nowhere_is_left_out():
    model = nested()
    copy = copied(model, CopyRules(), ends=(model.get_layer("sum").output,))
    assert "unused" not in {layer.name for layer in copy.layers}


def test_rules_change_names_configs_and_dtype():
    def without_bias(layer, config):
        return {**config, "use_bias": False} if isinstance(layer, L.Conv2D) else config

    rules = CopyRules("mixed_bfloat16", lambda path: "x_" + "_".join(path), without_bias)
    copy = copied(nested(), rules)
    conv = copy.get_layer("x_stack_c")
    assert conv.bias is None
    assert conv.compute_dtype == "bfloat16"


def test_a_part_may_start_inside():
    model = nested()
    start, end = model.get_layer("stack").output, model.get_layer("sum").output
    x = keras.Input((8, 8, 4))
    copy = keras.Model(x, copy_onto(x, Part(model, start, (end,)), CopyRules()))
    assert "stack_c" not in {layer.name for layer in copy.layers}


def test_the_maker_of_a_nested_output_is_found_inside():
    x = keras.Input((8, 8, 4))
    inner = keras.Sequential([keras.Input((8, 8, 4)), L.ReLU(name="r")], name="inner")
    outer = keras.Model(x, keras.Model(x, inner(x), name="middle")(x), name="outer")
    assert layer_path(outer.outputs[0]) == ("middle", "inner", "r")
    assert layer_path(output_of(outer, "middle")) == ("middle", "inner", "r")


def test_a_layer_gives_its_output_in_this_model():
    model = nested()
    L.Add(name="other")([model.get_layer("sum")([x := keras.Input((8, 8, 4)), x])] * 2)
    assert output_of(model, "sum") is model.outputs[0]
    with pytest.raises(EffkerasError, match=r"no layer 'sun' to tap; did you mean 'sum'\?"):
        output_of(model, "sun")
    with pytest.raises(EffkerasError, match="has no feature map"):
        output_of(model, "inner")


def test_models_without_a_graph_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(EffkerasError, match="is not functional"):
        whole_model(Own())


def test_models_of_several_inputs_are_refused():
    inputs = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    with pytest.raises(EffkerasError, match="has 2 inputs"):
        whole_model(keras.Model(inputs, L.Add()(inputs)))
