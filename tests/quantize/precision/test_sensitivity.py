"""The sensitivity of layers, and the search for those to keep out of int8.

The search is compared with every possible choice, on made-up networks whose best choice is known.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.eager import outputs_of_model
from support.own_networks import outputs_of, own_images, own_network
from support.tiny_models import tiny_model

from effkeras import EffkerasError
from effkeras.graph.keras_counting import count_layers
from effkeras.litert.flatbuffer import integer_share, multiply_adds, operators
from effkeras.weights.keras_files import save
from quantize import sensitivity
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts
from quantize.precision.command import main
from quantize.precision.measurements import MeasurementCache
from quantize.precision.partial import Partial
from quantize.precision.sensitivity import (
    KeptLayers,
    KeptLayerSearch,
    LayerSensitivity,
    Sensitivity,
    SensitivityOptions,
)

INT8 = PtqOptions(find("int8"))


@pytest.fixture(scope="module")
def ranking() -> Sensitivity:
    return sensitivity(own_network(), own_images(12), options=SensitivityOptions(images=8))


@pytest.fixture(scope="module")
def partial() -> Partial:
    return Partial.of(float_parts(own_network(), INT8), INT8, own_images(12)[:, None], 8)


def test_every_layer_is_ranked_once_the_worst_first(ranking):
    names = [one.name for one in ranking.layers]
    assert {"first", "depthwise", "project", "separable", "join", "last"} <= set(names)
    assert len(set(names)) == len(names)
    errors = [one.error for one in ranking.layers]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0
    assert errors[0] / 2 < ranking.error < sum(errors)


def test_an_activation_belongs_to_the_layer_that_alone_feeds_it(partial):
    graph = operators(float_parts(own_network("swish"), INT8).flatbuffer)
    from quantize.precision.partial import quantizable_layers

    layers = {layer.name: layer for layer in quantizable_layers(graph, [op.outputs[0].name for op in graph])}
    assert layers["first"].ops == ("CONV_2D", "LOGISTIC", "MUL")
    assert "MEAN" in layers["join"].ops
    assert layers["join"].macs == 0


def test_multiply_adds_are_those_of_the_network(partial):
    total = sum(multiply_adds(op) for op in operators(partial.core))
    assert total == sum(layer.macs for layer in partial.layers)
    assert total == count_layers(own_network()).macs
    assert integer_share(operators(partial.core)) == 0
    assert integer_share(operators(partial.only(None))) == 1


def test_a_layer_s_error_is_what_quantizing_it_alone_does(ranking, partial):
    layer = next(layer for layer in partial.layers if layer.name == "separable")
    made = partial.only(layer.scopes)
    integer = [op for op in operators(made) if op.arithmetic == "integer"]
    assert {op.outputs[0].name for op in integer} == set(layer.scopes)
    wanted = outputs_of_model(own_network(), own_images(8))
    own = np.sqrt(np.square(outputs_of(made, own_images(8)) - wanted).mean()) / wanted.std()
    (found,) = (one.error for one in ranking.layers if one.name == "separable")
    assert found == pytest.approx(own, rel=0.05)  # on XNNPACK against Keras


def test_a_layer_that_is_made_worse_is_ranked_worse(ranking):
    model = keras.models.clone_model(own_network())
    model.set_weights(own_network().get_weights())
    layer = model.get_layer("project_bn")
    scale = np.where(np.arange(12) < 2, 200.0, 1.0)  # two channels stretch the range of all
    layer.set_weights([layer.gamma * scale, layer.beta * scale, layer.moving_mean, layer.moving_variance])
    reader = model.get_layer("separable")
    kernel, *others = reader.get_weights()
    kernel[:, :, :2] /= 200
    reader.set_weights([kernel, *others])
    found = sensitivity(model, own_images(12), options=SensitivityOptions(images=8))
    assert {"project", "join"} <= {one.name for one in found.layers[:3]}


def test_a_metric_is_measured_if_asked_for():
    wanted = outputs_of_model(own_network(), own_images(8))

    def metric(flatbuffer: bytes) -> float:
        return -float(np.abs(outputs_of(flatbuffer, own_images(8)) - wanted).mean())

    found = sensitivity(own_network(), own_images(8), options=SensitivityOptions(4, metric))
    assert all(one.drop > 0 for one in found.layers)


def test_a_killed_ranking_goes_on(ranking, tmp_path, monkeypatch):
    options = SensitivityOptions(images=8)
    cache = MeasurementCache(tmp_path / "m.json", "key")
    calls = []

    def dies(partial, scopes):
        calls.append(scopes)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(partial, scopes)

    original = Partial.only
    monkeypatch.setattr(Partial, "only", dies)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(own_network(), own_images(12), options=options, cache=cache)
    again = sensitivity(
        own_network(), own_images(12), options=options, cache=MeasurementCache(tmp_path / "m.json", "key")
    )
    assert again == ranking
    assert len(calls) == 4 + len(ranking.layers) - 3 + 1


def test_a_recipe_that_quantizes_nothing_is_refused():
    with pytest.raises(EffkerasError, match="float32 quantizes no layer"):
        sensitivity(own_network(), own_images(2), "float32")


@pytest.mark.slow
def test_the_command_writes_rows_and_a_image(digit_classes, tmp_path, capsys):
    from support.tiny import tiny_classifier

    from effkeras.building.models import build_spec
    from effkeras.data.splits import open_data

    save(build_spec(tiny_classifier()), tmp_path / "net.keras")
    out = tmp_path / "out"
    arguments = [
        str(tmp_path / "net.keras"),
        "--data",
        str(digit_classes),
        "--out",
        str(out),
        "--images",
        "2",
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "stem_conv" in said
    rows = [json.loads(line) for line in (out / "sensitivity.jsonl").read_text().splitlines()]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"layer", "ops", "macs", "error", "environment"} <= rows[0].keys()
    with Image.open(out / "sensitivity.png") as image:
        assert image.size[0] > 800
    assert open_data(digit_classes, "train").records
    assert main([*arguments, "--metric", "--limit", "4"]) == 0
    assert "drop" in capsys.readouterr().out


def test_bad_input_is_one_line(digit_classes, capsys):
    assert main(["nosuch.keras", "--data", str(digit_classes)]) == 2
    assert main(["nosuch.keras", "--data", str(digit_classes), "--recipe", "int88"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'int8'" in said


def test_help_loads_nothing_heavy():
    code = (
        "import sys, quantize.precision.command as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'ai_edge_litert'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_detector_has_a_unit_for_each_call_of_its_heads():
    parts = float_parts(tiny_model("efficientdet-d0"), INT8)
    from support.tiny_models import random_images

    names = {layer.name for layer in Partial.of(parts, INT8, random_images(2)[:, None], 1).layers}
    assert {"class_predict #1", "class_predict #5", "box_predict #1"} <= names


class Network:
    """Each layer in int8 costs its own drop; what is measured is counted."""

    def __init__(self, costs: list[float], between: dict[str, set[str]] | None = None):
        self.costs = {f"layer{i}": cost for i, cost in enumerate(costs)}
        self.between = between or {}
        self.measured: list[frozenset[str]] = []

    def drop(self, kept: Iterable[str]) -> float:
        self.measured.append(frozenset(kept))
        return sum(cost for name, cost in self.costs.items() if name not in self.measured[-1])

    def ranked(self) -> list[LayerSensitivity]:
        layers = [LayerSensitivity(name, ("CONV_2D",), 10, cost) for name, cost in self.costs.items()]
        return sorted(layers, key=lambda one: -one.error)

    def bridges(self, kept: Iterable[str]) -> list[str]:
        return [name for name, sides in self.between.items() if sides <= set(kept)]

    def conversions(self, kept: Iterable[str]) -> int:
        names = set(kept)
        return 2 * len(names) - sum(4 for name, sides in self.between.items() if {name, *sides} <= names)

    def run(self, max_drop: float, requantize: int = 8) -> KeptLayers:
        search = KeptLayerSearch(max_drop, requantize, self.drop)
        return search.run(self.ranked(), self, KeptLayers((), self.drop(())))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.floats(0, 2))
def test_it_keeps_as_few_as_possible(costs, budget):
    network = Network(costs)
    if network.drop(()) <= budget:
        return
    found = network.run(budget)
    enough = [
        kept
        for count in range(len(costs) + 1)
        for kept in itertools.combinations(network.costs, count)
        if sum(cost for name, cost in network.costs.items() if name not in kept) <= budget
    ]
    assert len(found.kept) == len(enough[0])
    assert found.drop <= budget


def test_few_artifacts_are_measured():
    network = Network([0.01] * 60 + [0.5, 0.4, 0.3, 0.2, 0.1])
    found = network.run(0.61, requantize=2)
    assert len(found.kept) == 5
    assert len(network.measured) < 12


def test_layers_that_turn_out_not_to_matter_are_given_back():
    network = Network([0.5, 0.0, 0.4])
    ranking = [
        LayerSensitivity("layer1", ("CONV_2D",), 99, 0.9),  # looks worst, and costs nothing
        *(one for one in network.ranked() if one.name != "layer1"),
    ]
    found = KeptLayerSearch(0.1, 8, network.drop).run(ranking, network, KeptLayers((), 0.9))
    assert set(found.kept) == {"layer0", "layer2"}
    assert "the drop is 0.5" in found.why("layer0")
    assert "the drop is 0.4" in found.why("layer2")


def test_out_of_reach_gives_the_best_that_was_measured():
    network = Network([0.5, 0.4])
    found = network.run(-0.1)
    assert set(found.kept) == set(network.costs)
    assert found.drop == pytest.approx(0)
    assert "beyond the budget" in found.why("layer0")


def test_layers_between_kept_ones_join_them():
    network = Network([0.5, 0.0, 0.4], between={"layer1": {"layer0", "layer2"}})
    found = network.run(0.1)
    assert set(found.kept) == {"layer0", "layer1", "layer2"}
    assert "2 conversions fewer" in found.why("layer1")
