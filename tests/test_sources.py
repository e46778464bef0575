from __future__ import annotations

import numpy as np

from effkeras.sources import open_model


def test_random_weights_are_the_same_each_time(capsys):
    first, second = (open_model("efficientnet-digits").get_weights() for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert "random weights" in capsys.readouterr().err
