"""An augmentation is one file: a training takes its key, and uses it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tensorflow as tf
from support.one_file import add_module
from support.pages import complete_file
from support.tiny import tiny_classifier

from effkeras import cli
from effkeras.data.augment import augment_images
from effkeras.data.augmentations import AUGMENTATIONS, AugmentSpec
from effkeras.support.errors import EffkerasError
from effkeras.training.settings import read_settings

FADE = complete_file("augmentation.md")


@pytest.fixture
def fade(tmp_path, monkeypatch):
    folder = tmp_path / "module"
    folder.mkdir()
    add_module(AUGMENTATIONS, "fade", FADE, folder, monkeypatch)


def images() -> tuple[tf.Tensor, tf.Tensor]:
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)
    return tf.constant(pixels), tf.constant([[7, index] for index in range(4)], tf.int32)


@pytest.mark.slow
def test_a_training_uses_it(fade, digit_classes, tmp_path):
    (tmp_path / "tiny.toml").write_text(tiny_classifier().to_toml())
    config = tmp_path / "train.toml"
    config.write_text("epochs = 1\nbatch = 8\n[augment]\nfade = 0.5\nflip = false\n")
    words = ["train", tmp_path / "tiny.toml", "--data", digit_classes, "--config", config]
    assert cli.main([*map(str, words), "--out", str(tmp_path / "run")]) == 0
    written = read_settings(tmp_path / "run" / "train.toml", {})
    assert (written.augment["fade"], written.augment["flip"]) == (0.5, False)


def test_it_changes_images_by_a_stream_of_its_own(fade):
    pixels, seeds = images()
    plain, none, faded = (
        augment_images(pixels, seeds, AugmentSpec(amounts), (0.0, 0.0, 0.0)).numpy()
        for amounts in ({}, {"fade": 0.0}, {"fade": 0.9})
    )
    np.testing.assert_array_equal(plain, none)
    ratio = faded.std(axis=(1, 2, 3)) / plain.std(axis=(1, 2, 3))
    assert ratio.max() < 1
    assert len(set(ratio.round(3))) == 4


def test_its_amount_is_checked_and_travels(fade):
    with pytest.raises(EffkerasError, match="augment: fade must be a number"):
        read_settings(None, {"augment": {"fade": "much"}})
    with pytest.raises(EffkerasError, match="augment: unknown key 'fad'; did you mean 'fade'"):
        read_settings(None, {"augment": {"fad": 0.1}})
    assert pickle.loads(pickle.dumps(AugmentSpec({"flip": False}))) == AugmentSpec({"flip": False})


def test_without_the_file_there_is_no_such_key():
    with pytest.raises(EffkerasError, match="unknown key 'fade'"):
        read_settings(None, {"augment": {"fade": 0.1}})
