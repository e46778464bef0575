from __future__ import annotations

import numpy as np
import pytest

from effkeras.building.sources import file_stem, open_model


def test_random_weights_are_the_same_each_time(capsys):
    first, second = (open_model("efficientnet-digits").get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert "random weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mnasnet-a1-0.35", "mnasnet-a1-0.35"),
        ("folder/mnasnet-a1-0.5.toml", "mnasnet-a1-0.5"),
        ("folder/net.v2.keras", "net.v2"),
        ("b0", "b0"),
    ],
)
def test_only_the_suffix_of_a_file_is_no_part_of_a_name(source, name):
    assert file_stem(source) == name
