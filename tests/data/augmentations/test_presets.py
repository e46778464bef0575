"""Presets are tables of amounts; keys beside them override."""

from __future__ import annotations

import pytest

from effkeras.data.augmentations import AugmentSpec, preset_names
from effkeras.support.errors import EffkerasError
from effkeras.training.settings import read_settings


def test_they_are_valid_and_the_light_one_is_the_default():
    specs = {name: AugmentSpec.from_table({"preset": name}, "") for name in preset_names()}
    assert list(specs) == ["none", "light", "medium", "strong"]
    assert specs["light"] == AugmentSpec()
    assert len(set(specs.values())) == 4


def test_keys_beside_a_preset_override_it_and_an_option_names_it(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text("[augment]\nflip = false\npreset = 'light'\n")
    assert read_settings(file, {}).augment == AugmentSpec({"flip": False})
    chosen = read_settings(file, {"augment": {"preset": "strong"}}).augment
    assert (chosen["flip"], chosen["mosaic"]) == (False, 0.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"preset": "big"}, "augment: there is no preset 'big' of augmentations; there are none, light"),
        ({"preset": 3}, "there is no preset 3"),
        ({"scale": [0, 1]}, "augment: scale must be two factors above 0"),
        ({"mosaic": 1.5}, "augment: mosaic must lie between 0 and 1, not 1.5"),
    ],
)
def test_nonsense_is_refused(table, message):
    with pytest.raises(EffkerasError, match=message):
        AugmentSpec.from_table(table, "augment")
