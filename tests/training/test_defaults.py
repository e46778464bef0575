"""The length of a training that states none."""

from __future__ import annotations

import pytest

from effkeras.training.defaults import Facts, completed, finetune, passes_of, preset_for
from effkeras.training.settings import TrainSettings, read_settings


@pytest.mark.parametrize(
    ("images", "is_detector", "batch", "length", "said"),
    [
        (205, True, 8, (None, 3000), "3,000 steps, 120 passes over the 205 images: a small set"),
        (205, True, 16, (None, 1500), "1,500 steps"),
        (118_000, True, 16, (30, None), "30 epochs of 7,375 steps"),
        (24, False, 16, (None, 1000), "1,000 steps"),
        (2_000, False, 16, (30, None), "30 epochs of 125 steps"),
        (3, True, 8, (None, 3000), "3,000 steps"),
    ],
)
def test_small_sets_get_enough_steps(images, is_detector, batch, length, said):
    settings, line = completed(TrainSettings(batch=batch), Facts(images, is_detector))
    assert (settings.epochs, settings.steps) == length
    assert said in line


@pytest.mark.parametrize("given", [{"epochs": 2}, {"steps": 5}, {"minutes": 1.0}])
def test_a_given_length_stays(given):
    settings = TrainSettings(**given)
    assert completed(settings, Facts(10, True)) == (settings, "")


@pytest.mark.parametrize("is_detector", [True, False])
@pytest.mark.parametrize(("images", "preset"), [(20, "medium"), (100_000, "light")])
def test_the_data_choose_the_rest(images, preset, is_detector):
    settings = read_settings(None, {}, finetune(Facts(images, is_detector)))
    assert settings.augment == read_settings(None, {"augment": {"preset": preset}}).augment
    assert not settings.has_length


@pytest.mark.parametrize(
    ("images", "is_detector", "length", "preset"),
    [
        (205, True, {}, "medium"),
        (205, True, {"steps": 500}, "light"),
        (205, True, {"minutes": 10.0}, "light"),
        (118_000, True, {}, "light"),
        (205, False, {}, "light"),
        (20, False, {"minutes": 10.0}, "medium"),
    ],
)
def test_images_that_are_seen_often_change_more(images, is_detector, length, preset):
    facts = Facts(images, is_detector)
    assert preset_for(facts, passes_of(TrainSettings(batch=8, **length), facts)) == preset


def test_boxes_have_a_loss_and_masks_alone_have_none():
    losses = [read_settings(None, {}, finetune(Facts(205, True, has))).box_loss for has in (True, False)]
    assert losses == ["giou", "huber"]  # huber: what `TrainSettings` has where nobody asks for another


def test_what_is_given_goes_over_the_defaults(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("batch = 4\nsteps = 7\n[augment]\nflip = false\n")
    base = finetune(Facts(20, is_detector=True))
    settings = read_settings(file, {"batch": 5}, base)
    assert (settings.batch, settings.steps, settings.warmup_epochs) == (5, 7, 2.0)
    assert (settings.augment["flip"], settings.augment["mosaic"]) == (False, 0.25)
    light = read_settings(file, {"augment": {"preset": "light"}, "minutes": 2}, settings.to_table())
    assert (light.steps, light.minutes, light.augment["mosaic"]) == (None, 2, 0.0)
