from __future__ import annotations

import numpy as np
import pytest
from support.eager import outputs_of_model
from support.own_networks import outputs_of, own_images, own_network

from effkeras import EffkerasError
from effkeras.litert.flatbuffer import operators
from quantize import mixed_precision
from quantize.formats import find
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts
from quantize.precision.mixed import Mixed, MixedOptions, MixedSets
from quantize.precision.partial import Partial
from quantize.specs import PtqSpec

IMAGES = own_images(12)
CHECK = own_images(12, seed=5)


class Judge:
    """The error of the outputs, as a metric; counts what it is shown."""

    def __init__(self, most: int = 10_000):
        self.wanted = outputs_of_model(own_network("swish"), CHECK)
        self.shown = 0
        self.most = most

    def __call__(self, flatbuffer: bytes) -> dict[str, float]:
        self.shown += 1
        if self.shown > self.most:
            raise KeyboardInterrupt
        error = np.sqrt(np.square(outputs_of(flatbuffer, CHECK) - self.wanted).mean())
        return {"closeness": float(1 - error / self.wanted.std())}


def search(max_drop: float, judge: Judge | None = None, **changes) -> Mixed:
    spec = PtqSpec(precision=changes.pop("precision", "float32"))
    options = MixedOptions(max_drop, PtqOptions(find("int8"), spec=spec), images=6, **changes)
    return mixed_precision(own_network("swish"), MixedSets(IMAGES, judge or Judge(), Judge()), options)


@pytest.fixture(scope="module")
def plain_drop() -> float:
    return search(10.0).report.figures["drop"]


@pytest.fixture(scope="module")
def half(plain_drop) -> Mixed:
    return search(plain_drop * 0.4)


def test_a_budget_that_is_met_keeps_nothing():
    found = search(10.0)
    assert found.reached
    assert found.kept == ()
    assert found.report.figures["MACs in int8"] == 1


def test_the_budget_is_met_with_some_layers_in_float(half, plain_drop):
    assert half.reached
    assert half.kept
    assert half.report.figures["drop"] <= plain_drop * 0.4
    own = 1 - Judge()(half.quantized.flatbuffer)["closeness"]
    assert half.report.figures["drop"] == pytest.approx(own, abs=1e-3)
    assert half.report.figures["drop when tested"] == pytest.approx(own, abs=1e-3)


def test_kept_layers_compute_in_float_and_say_why(half):
    graph = operators(half.quantized.flatbuffer)
    floats = " ".join(op.outputs[0].name for op in graph if op.arithmetic == "float")
    assert all(name.split(" ")[0] in floats for name in half.kept)
    assert all(layer.why for layer in half.report.skipped)
    done = {layer.name for layer in half.report.done}
    assert done
    assert not done & set(half.kept)
    assert half.delegated.partitions == 1


def test_what_is_kept_is_shown(half, capsys):
    half.show()
    said = capsys.readouterr().out
    assert all(name in said for name in half.kept)
    assert "MACs in int8" in said


def test_int16_activations_are_another_way_to_keep():
    options = PtqOptions(find("int8"), spec=PtqSpec(precision="w8a16"))
    partial = Partial.of(float_parts(own_network(), options), options, IMAGES[:, None], 2)
    graph = operators(partial.all_but(["separable"]).flatbuffer)
    dtypes = {op.outputs[0].dtype for op in graph if "/separable" in op.outputs[0].name}
    assert "int16" in dtypes
    assert {op.outputs[0].dtype for op in graph if op.outputs[0].name.startswith("own_1/first")} == {"int8"}


def test_out_of_reach_gives_the_best_and_says_so(plain_drop):
    found = search(-1.0)
    assert not found.reached
    assert found.report.figures["drop"] < plain_drop
    assert "beyond the budget" in found.report.skipped[0].why


@pytest.mark.slow
def test_a_killed_search_measures_nothing_twice(half, plain_drop, tmp_path):
    whole = Judge()
    search(plain_drop * 0.4, whole, work=tmp_path / "whole")
    killed = Judge(most=whole.shown // 2)
    with pytest.raises(KeyboardInterrupt):
        search(plain_drop * 0.4, killed, work=tmp_path / "work")
    rest = Judge()
    found = search(plain_drop * 0.4, rest, work=tmp_path / "work")
    assert found.quantized.flatbuffer == half.quantized.flatbuffer
    assert rest.shown == whole.shown - whole.shown // 2


def test_the_other_backend_cannot_mix():
    options = MixedOptions(0.1, PtqOptions(find("int8"), spec=PtqSpec(backend="tensorflow")))
    with pytest.raises(EffkerasError, match="use ai-edge-quantizer"):
        mixed_precision(own_network("swish"), MixedSets(IMAGES, Judge()), options)


def test_float_activations_leave_nothing_to_mix():
    options = MixedOptions(0.1, PtqOptions(find("dynamic")))
    with pytest.raises(EffkerasError, match="use --recipe int8"):
        mixed_precision(own_network(), MixedSets(IMAGES, Judge()), options)
