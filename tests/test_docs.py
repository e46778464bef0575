"""The pages of docs/ name what there is."""

from __future__ import annotations

import re
import typing

from support.pages import text_of

from effkeras.data.augmentations import AUGMENTATIONS, PRESET
from effkeras.data.formats import FORMATS, writable
from effkeras.training.settings import TrainSettings, read_settings

YOUR_DATA = text_of("docs/your-data.md")


def test_every_format_has_its_row():
    rows = dict(re.findall(r"(?m)^\| ([^|]+?) \|.*\| *`?([a-z-]*)`? *\|$", YOUR_DATA))
    for name, entry in FORMATS.entries().items():
        assert rows[entry.title] == (name if name in writable() else ""), entry.title


def test_the_settings_of_a_training_are_as_the_page_shows_them(tmp_path):
    """All keys are known, and those that are not of the example's freezing have their defaults."""
    page = text_of("docs/training.md")
    block, *_ = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "mine.toml").write_text(block, "utf-8")
    freezing = {"freeze": "stages:2", "unfreeze_at": 0.3, "backbone_rate": 0.5, "layer_decay": 0.8}
    assert read_settings(tmp_path / "mine.toml", {}) == TrainSettings(
        box_loss="giou", box_weight=2.0, **freezing
    )
    names = re.findall(r"\w+", re.search('optimizer = "(.*)', block).group(1))
    assert names == list(typing.get_args(typing.get_type_hints(TrainSettings)["optimizer"]))


def test_the_page_shows_every_augmentation(tmp_path):
    page = text_of("docs/training.md")
    *_, block = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "mine.toml").write_text(block, "utf-8")
    assert read_settings(tmp_path / "mine.toml", {}).augment["mosaic"] == 0.25
    assert set(re.findall(r"(?m)^(\w+) = ", block)) == {PRESET, *AUGMENTATIONS.entries()}
