"""Every weight of every official model has the official name and shape."""

from __future__ import annotations

import pytest
from support.official_variables import official_models, official_variables
from support.proofs import NAMES, proven

import effkeras
from effkeras.graph.counting import weight_shapes
from effkeras.support.errors import EffkerasError
from effkeras.weights.official_names import official_names


@pytest.mark.parametrize("model", proven(official_models(), NAMES))
def test_names_and_shapes_are_those_of_the_authors(model):
    spec = effkeras.spec(model)
    names = official_names(spec)
    ours = {names[weight]: shape for weight, shape in weight_shapes(spec).items()}
    assert ours == official_variables(model)


def test_a_network_without_such_checkpoints_says_so():
    with pytest.raises(EffkerasError, match=r"squeezenet-1\.1: no TensorFlow checkpoint"):
        official_names(effkeras.spec("squeezenet-1.1"))
