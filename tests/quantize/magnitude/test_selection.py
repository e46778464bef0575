from __future__ import annotations

import keras
import pytest
from support.small_nets import nested, two_heads
from support.tiny_models import tiny_model

from effkeras import EffkerasError
from effkeras.graph.rewrite import Graph
from quantize.magnitude.selection import (
    DEPTHWISE,
    ONLY_1X1,
    SKIPPED,
    KernelFilter,
    kernel_layers,
    layer_named,
    predictors,
    select,
    stem,
)


def names(*choices: str, **options: bool) -> list[str]:
    return [one.name for one in select(Graph.of(two_heads()), KernelFilter(choices, **options)).targets]


def reasons(choice: KernelFilter) -> dict[str, str]:
    return {one.name: one.why for one in select(Graph.of(two_heads()), choice).skipped}


def test_the_stem_and_the_predictors_are_found_on_the_graph():
    graph = Graph.of(two_heads())
    assert stem(graph) == {"first"}
    assert predictors(graph) == {"boxes", "scores"}


@pytest.mark.parametrize(
    ("name", "last"),
    [("efficientdet-d0", {"class_predict", "box_predict"}), ("efficientnet-b0", {"logits"})],
)
def test_those_of_our_own_networks(name, last):
    graph = Graph.of(tiny_model(name))
    assert stem(graph) == {"stem_conv"}
    assert predictors(graph) == last


def test_a_network_with_two_beginnings_has_two_stems():
    image = keras.Input((8, 8, 3))
    left = keras.layers.Conv2D(4, 3, padding="same", name="left")(image)
    right = keras.layers.Conv2D(4, 1, name="right")(keras.layers.ReLU()(image))
    joined = keras.layers.Add()([left, right])
    graph = Graph.of(keras.Model(image, keras.layers.Conv2D(2, 1, name="last")(joined)))
    assert stem(graph) == {"left", "right"}
    assert predictors(graph) == {"last"}


def test_layers_come_in_the_networks_order_and_shared_ones_once():
    found = [layer.name for layer in kernel_layers(Graph.of(two_heads()))]
    assert sorted(found) == sorted(
        ["first", "expand", "depthwise", "separable", "enlarge", "boxes", "hidden", "scores"]
    )
    assert found[:4] == ["first", "expand", "depthwise", "separable"]


def test_depthwise_kernels_are_taken_on_request():
    graph = Graph.of(two_heads())
    without = {(one.name, one.weight) for one in select(graph, KernelFilter()).targets}
    with_them = {(one.name, one.weight) for one in select(graph, KernelFilter(depthwise=True)).targets}
    assert with_them - without == {("depthwise", "kernel"), ("separable", "depthwise_kernel")}
    assert reasons(KernelFilter()) == {"depthwise": DEPTHWISE}


def test_only_1x1_takes_the_pointwise_half_of_a_separable_convolution():
    found = select(Graph.of(two_heads()), KernelFilter(only_1x1=True, depthwise=True)).targets
    assert [(one.name, one.weight) for one in found] == [
        ("expand", "kernel"),
        ("separable", "pointwise_kernel"),
    ]
    assert set(reasons(KernelFilter(only_1x1=True)).values()) == {ONLY_1X1, DEPTHWISE}


def test_skip_takes_words_and_regular_expressions():
    left = names("stem", "predictors", "^hid")
    assert sorted(left) == ["enlarge", "expand", "separable"]
    assert reasons(KernelFilter(("stem", "^hid")))["first"] == SKIPPED


def test_a_skip_that_matches_nothing_gets_a_hint():
    with pytest.raises(EffkerasError, match=r"skip: 'hiden' matches no convolution.*did you mean 'hidden'"):
        names("hiden")
    with pytest.raises(EffkerasError, match="did you mean 'predictors'"):
        names("predictor$")


def test_a_skip_that_is_no_regular_expression_is_refused():
    with pytest.raises(EffkerasError, match=r"skip: '\(' is not a valid regular expression"):
        names("(")


def test_nothing_left_is_an_error():
    with pytest.raises(EffkerasError, match="nothing in 'two_heads' can be changed: left out by skip"):
        names(".*")
    image = keras.Input((8, 8, 3))
    empty = keras.Model(image, keras.layers.ReLU()(image), name="empty")
    with pytest.raises(EffkerasError, match="it has no convolution or dense layer"):
        select(Graph.of(empty), KernelFilter())


def test_a_kernel_of_a_kind_that_is_not_known_is_named():
    image = keras.Input((4, 8))
    x = keras.layers.EinsumDense("abc,cd->abd", (None, 6), name="einsum")(image)
    graph = Graph.of(keras.Model(image, keras.layers.Dense(2, name="last")(x)))
    (skipped,) = select(graph, KernelFilter()).skipped
    assert (skipped.name, skipped.why) == ("einsum", "EinsumDense is neither a convolution nor a dense layer")


def test_a_kernel_that_does_not_fit_is_left_alone_with_the_reason():
    selection = select(
        Graph.of(two_heads()), KernelFilter(), lambda kernel: "too small" if kernel.shape[-1] < 10 else ""
    )
    whys = {one.name: one.why for one in selection.skipped}
    assert whys == {"first": "too small", "boxes": "too small", "scores": "too small", "depthwise": DEPTHWISE}


def test_layers_of_nested_models_go_by_their_joined_names():
    model = nested()
    found = select(Graph.of(model), KernelFilter(("stem",)))
    assert [one.name for one in found.targets] == ["features_second", "head_scores"]
    assert layer_named(model, "features_second") is model.get_layer("features").get_layer("second")
    assert found.targets[1].variable(model).shape == (576, 3)
    with pytest.raises(EffkerasError, match="no layer 'features_third'"):
        layer_named(model, "features_third")
