"""Settings come from a file and from options, and nonsense is refused."""

from __future__ import annotations

import dataclasses

import pytest
import tomli_w

from effkeras.support.errors import EffkerasError
from effkeras.training.settings import TrainSettings, changed_setting, read_settings


def test_options_override_the_file(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text("epochs = 7\nbatch = 4\n[augment]\nflip = false\n")
    settings = read_settings(file, {"batch": 2})
    assert (settings.epochs, settings.batch, settings.augment["flip"]) == (7, 2, False)


def test_a_given_length_replaces_that_of_the_file(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text("epochs = 7\n")
    settings = read_settings(file, {"minutes": 2})
    assert (settings.epochs, settings.steps, settings.minutes) == (None, None, 2.0)


def test_what_is_not_given_stays_as_it_was():
    before = TrainSettings(epochs=30, patience=5)
    assert TrainSettings().like(before) == before
    assert TrainSettings(steps=9).like(before) == TrainSettings(steps=9, patience=5)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"steps": 5}, {"steps": 6}, ""),
        ({"steps": 5}, {"steps": 4}, "steps was 5 and is now 4"),
        ({"epochs": 5}, {"minutes": 1.0}, ""),
    ],
)
def test_a_training_may_become_longer(before, now, said):
    assert changed_setting(TrainSettings(**now), TrainSettings(**before)) == said


def test_round_trip(tmp_path):
    file = tmp_path / "t.toml"
    settings = TrainSettings(epochs=3, early_stop=True)
    file.write_text(tomli_w.dumps(settings.to_table()))
    assert read_settings(file, {}) == settings


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"minutes": 0}, "minutes must be above 0"),
        ({"epochs": 3, "steps": 5}, "epochs and steps are two lengths"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"ema": 1.0}, "ema must lie between"),
        ({"label_smoothing": -0.1}, "label_smoothing must lie between"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie between"),
        ({"label_smoothing": float("nan")}, "label_smoothing must be a finite number"),
        ({"optimizer": "rmsporp"}, "must be one of adamw, sgd.*; did you mean 'rmsprop'"),
        ({"mixed_precision": "fp16"}, "must be one of none, bfloat16, float16, not 'fp16'"),
        ({"schedule": "cosin"}, "must be one of cosine, exponential, constant.*did you mean 'cosine'"),
        ({"decays": -1.0}, "decays must be 0 or above"),
        ({"clip_norm": -1.0}, "clip_norm must be 0 or above"),
        ({"rmsprop_epsilon": 0.0}, "rmsprop_epsilon must be above 0"),
        ({"l2": 1e-5}, "l2 is for other optimizers than adamw"),
        ({"accumulate": 0}, "accumulate must be above 0"),
        ({"box_loss": "ciuo"}, "must be one of huber, iou, giou, ciou, not 'ciuo'; did you mean 'ciou'"),
        ({"box_weight": 0.0}, "box_weight must be above 0"),
        ({"focal_alpha": 1.5}, "focal_alpha must lie between"),
        ({"class_weights": True}, "class_weights must be one of none, balanced"),
        ({"sampling": "class"}, "sampling must be one of uniform, balanced"),
        ({"freeze": "bakcbone"}, "freeze must be none, backbone or stages:N.*did you mean 'backbone'"),
        ({"freeze": "stages:0"}, "freeze must be none, backbone or stages:N"),
        ({"unfreeze_at": 0.5}, "unfreeze_at is a step or a share"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"augment": {"flipp": True}}, "did you mean 'flip'"),
    ],
)
def test_nonsense_is_refused(table, message):
    with pytest.raises(EffkerasError, match=message):
        read_settings(None, table)


@pytest.mark.parametrize(("given", "read"), [(True, "bfloat16"), (False, "none"), ("float16", "float16")])
def test_mixed_precision_was_once_true_or_false(given, read, tmp_path):
    file = tmp_path / "train.toml"
    file.write_text(tomli_w.dumps({"mixed_precision": given}))
    assert read_settings(file, {}) == TrainSettings(mixed_precision=read)


def test_difference_names_the_setting():
    ours = TrainSettings()
    assert changed_setting(ours, ours) == ""
    assert changed_setting(dataclasses.replace(ours, seed=3), ours) == "seed was 0 and is now 3"
