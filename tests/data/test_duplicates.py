"""Images that look alike are found, and others are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from support.data_sets import REAL

from effkeras.data.duplicates import COARSE_BITS, FINE_BITS, Look, alike, look_of


def noise(seed: int) -> Image.Image:
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream)


CHANGES = {
    "the same": lambda image: image,
    "saved at low quality": saved_again,
    "half the size": lambda image: image.resize((160, 120)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "two pixels aside": lambda image: image.crop((2, 0, 320, 240)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_looks_alike(change):
    looks = [look_of(np.asarray(image)) for image in (noise(1), noise(2), CHANGES[change](noise(1)))]
    assert alike(looks) == [[0, 2]]


def test_different_images_do_not():
    assert alike([look_of(np.asarray(noise(seed))) for seed in range(30)]) == []


bits = st.integers(0, 2**64 - 1)
step = st.tuples(st.integers(0, 3), bits, bits)


@settings(max_examples=40)
@given(
    st.lists(bits, min_size=1, max_size=4), st.lists(st.tuples(st.integers(0, 3), bits, bits), max_size=12)
)
def test_the_search_by_bands_finds_every_pair(centres, steps):
    """Against comparing all pairs: hashes near a few centres, and chains of pairs are one group."""
    looks = [Look(centre, centre) for centre in centres]
    for place, one, other in steps:
        start = looks[place % len(looks)]
        looks.append(Look(start.coarse ^ (one & other & (one << 7)) & 2**64 - 1, start.fine))
    groups = [{position} for position in range(len(looks))]
    for first in range(len(looks)):
        for second in range(first):
            near = (looks[first].coarse ^ looks[second].coarse).bit_count() <= COARSE_BITS
            if near and (looks[first].fine ^ looks[second].fine).bit_count() <= FINE_BITS:
                joined = next(g for g in groups if first in g) | next(g for g in groups if second in g)
                groups = [group for group in groups if not group & joined] + [joined]
    assert sorted(alike(looks)) == sorted(sorted(group) for group in groups if len(group) > 1)


@pytest.mark.skipif(not (REAL / "bccd").is_dir(), reason="BCCD is not on this machine")
def test_two_photos_of_one_field_are_found_among_real_ones():
    names = [f"BloodImage_{number:05d}.jpg" for number in (35, 36, 37, 38, 39, 41, 42)]
    paths = [REAL / "bccd" / "JPEGImages" / name for name in names]
    assert alike([look_of(np.asarray(Image.open(path).convert("RGB"))) for path in paths]) == [[2, 3]]
