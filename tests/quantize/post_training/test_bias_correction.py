from __future__ import annotations

import numpy as np
import pytest
from support.eager import outputs_of_model
from support.own_networks import outputs_of, own_images, own_network

from quantize import ptq
from quantize.formats import find
from quantize.post_training.corrections import channel_means, corrected
from quantize.post_training.options import PtqOptions
from quantize.post_training.quantization import float_parts
from quantize.specs import PtqSpec


@pytest.mark.parametrize("recipe", ["int4", "dynamic-int4"])
def test_the_mean_error_of_each_output_shrinks(recipe):
    shown = own_images(24)
    wanted = outputs_of_model(own_network(), shown).mean(axis=0)

    def shift(spec: PtqSpec) -> float:
        made = ptq(own_network(), recipe, shown, spec=spec)
        return float(np.abs(outputs_of(made.flatbuffer, shown).mean(axis=0) - wanted).mean())

    assert shift(PtqSpec(correct_bias=True)) < 0.6 * shift(PtqSpec())


def test_nothing_to_correct_changes_nothing():
    exact = float_parts(own_network(), PtqOptions(find("float32"))).flatbuffer
    means = channel_means(exact, own_images(4)[:, None])
    again = corrected(exact, exact, means)
    np.testing.assert_array_equal(outputs_of(again, own_images(4)), outputs_of(exact, own_images(4)))


def test_means_are_those_of_the_channels():
    exact = float_parts(own_network(), PtqOptions(find("float32"))).flatbuffer
    pixels = own_images(5)
    means = channel_means(exact, pixels[:, None])
    scaled = pixels.mean(axis=(0, 1, 2), dtype=float) / 127.5 - 1
    assert any(len(one) == 3 and np.allclose(one, scaled, atol=1e-4) for one in means.values())


def test_the_size_stays():
    plain, better = (
        ptq(own_network(), "int8", own_images(4), spec=spec)
        for spec in (PtqSpec(), PtqSpec(correct_bias=True))
    )
    assert abs(len(better.flatbuffer) - len(plain.flatbuffer)) < 200
