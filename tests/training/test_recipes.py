"""Recipes by name are found, valid and those of the papers; their learning rate follows the batch."""

from __future__ import annotations

import dataclasses
import re

import pytest

from effkeras.cli import main
from effkeras.definitions import zoo
from effkeras.support.errors import EffkerasError
from effkeras.training import loop, recipes
from effkeras.training.recipes import FINETUNE, Recipe, for_batch, recipe_names, recipe_of
from effkeras.training.settings import TrainSettings, settings_over

FILES = sorted(zoo.zoo_folder().glob("*/*.train.toml"))


def settings(name: str, model: str) -> TrainSettings:
    recipe = recipe_of(name, zoo.spec(model))
    assert recipe.is_whole
    return settings_over(recipe.table, recipe.where, {})


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_shipped_recipes_are_valid(file):
    """For each model of the family; each states its length, and digits are not mirrored."""
    name = file.name.removesuffix(".train.toml")
    specs = [zoo.spec(one) for one in zoo.list_models()]
    for spec in (one for one in specs if one.family == file.parent.name):
        made = settings(name, spec.name)
        assert made.has_length
        assert made.augment["flip"] == (name == "paper"), spec.name


@pytest.mark.parametrize(
    "file", [one for one in FILES if one.name == "paper.train.toml"], ids=lambda f: f.parent.name
)
def test_a_recipe_states_its_command_and_the_published_result(file):
    text = file.read_text("utf-8")
    words = re.search("effkeras train (.*)", text).group(1).split()
    spec = zoo.spec(words[0])
    assert spec.family == file.parent.name
    assert words[words.index("--config") + 1] == "paper"
    batch, accumulate = (int(words[words.index(name) + 1]) for name in ("--batch", "--accumulate"))
    assert batch * accumulate == settings("paper", words[0]).batch  # so that nothing is scaled
    figures = {value for one in zoo.list_models() for value in _published(one, spec.family)}
    stated = re.findall(r"(\d+\.\d+) for", re.search(r"Expected: (.*?)Not", text, re.DOTALL).group(1))
    assert stated
    assert all(
        any(round(value, 1) == float(one) or value == float(one) for value in figures) for one in stated
    )


def _published(model: str, family: str) -> list[float]:
    spec = zoo.spec(model)
    return list(spec.published.metrics.values()) if spec.family == family and spec.published else []


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("b7", {"optimizer": "rmsprop", "learning_rate": 0.256, "l2": 1e-5, "epochs": 350}),
        ("v2-s", {"batch": 4096, "label_smoothing": 0.1, "ema": 0.9999}),
        ("d0", {"optimizer": "sgd", "learning_rate": 0.16, "batch": 128, "epochs": 300, "l2": 4e-5}),
        ("d7x", {"epochs": 600}),
        ("nasnet-large", {"learning_rate": 1.5, "batch": 1600, "l2": 5e-5, "rmsprop_epsilon": 1.0}),
        ("nasnet-mobile", {"learning_rate": 2.0, "l2": 4e-5}),
        ("nasnet-cifar", {"schedule": "cosine", "clip_norm": 5.0, "optimizer": "sgd"}),
        ("pnasnet-large", {"learning_rate": 1.5, "l2": 4e-5, "epochs": 312}),
    ],
)
def test_figures_of_the_papers(model, wanted):
    made = settings("paper", model)
    assert {name: getattr(made, name) for name in wanted} == wanted


def test_augmentation_differs_within_a_family():
    assert settings("paper", "v2-b0").augment["auto_augment"] == "classification-v0"
    assert settings("paper", "v2-m").augment["mixup"] == (0.5, 0.2)
    levels = [settings("paper", f"v2-{size}").augment["rand_augment"] for size in ("b3", "s", "m", "l")]
    assert levels == [(0, 0), (2, 10), (2, 15), (2, 20)]
    assert settings("paper", "v2-xl").augment["mixup"] == (0.5, 0.5)
    assert settings("paper", "efficientnet-lite0").augment["auto_augment"] == ""


def test_a_path_still_works_and_the_default_has_a_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 7\n")
    spec = zoo.spec("b0")
    assert recipe_of(str(file), spec) == Recipe(str(file), {"epochs": 7})
    assert recipe_of(FINETUNE, spec) == recipe_of(None, spec) == Recipe()
    assert recipe_names(spec.family) == ["digits", "digits-b0", "paper"]


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        (
            "papr",
            "b0",
            "no recipe 'papr' for efficientnet; did you mean 'paper'.* finetune, digits, digits-b0, paper or",
        ),
        ("paper", "mobilenet-v2", "no recipe 'paper' for mobilenet; --config takes finetune or the path"),
        ("none.toml", "b0", "cannot read none.toml"),
    ],
)
def test_unknown_recipes(name, model, message):
    with pytest.raises(EffkerasError, match=message):
        recipe_of(name, zoo.spec(model))


def test_only_takes_tables(tmp_path):
    (tmp_path / "mine.toml").write_text("[only]\nb0 = 3\n")
    with pytest.raises(EffkerasError, match=r"\[only\] takes tables"):
        recipe_of(str(tmp_path / "mine.toml"), zoo.spec("b0"))


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ({"batch": 256}, 0.016),
        ({"batch": 256, "accumulate": 16}, 0.256),
        ({"accumulate": 2}, 0.512),
        ({"epochs": 3}, 0.256),
        ({"batch": 256, "learning_rate": 0.1}, 0.1),
    ],
)
def test_the_rate_follows_the_images_of_an_update(overrides, rate):
    recipe, said = for_batch(recipe_of("paper", zoo.spec("b0")), overrides)
    assert settings_over(recipe.table, recipe.where, overrides).learning_rate == pytest.approx(rate)
    assert bool(said) == (rate not in (0.256, 0.1))
    assert recipe.is_whole


def test_a_recipe_without_a_batch_is_not_scaled():
    recipe = Recipe("mine.toml", {"learning_rate": 0.1})
    assert for_batch(recipe, {"batch": 3}) == (recipe, "")


def test_the_command_names_recipes(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "a recipe of the model's family (paper: its authors'; default: finetune)" in said


def trained_with(monkeypatch, data, out, *words: str) -> TrainSettings:
    """The settings that the command trains with."""
    made: list[loop.Job] = []
    monkeypatch.setattr(loop, "train", made.append)
    assert main(["train", "efficientnet-digits", "--data", str(data), "--out", str(out), *words]) == 0
    return made[0].settings


def test_the_command_trains_by_name(monkeypatch, digit_classes, tmp_path, capsys):
    """A named recipe stands for all settings; the default is finetune, which has its own augmentation."""
    made = trained_with(
        monkeypatch, digit_classes, tmp_path, "--config", "paper", "--batch", "8", "--minutes", "1"
    )
    assert (
        "0.0005: that of the recipe, 0.256 for 4,096 images an update, scaled to 8" in capsys.readouterr().err
    )
    whole = dataclasses.replace(
        settings("paper", "b0"), epochs=None, minutes=1.0, batch=8, learning_rate=0.0005
    )
    assert made == whole
    usual = trained_with(monkeypatch, digit_classes, tmp_path)
    assert usual == trained_with(monkeypatch, digit_classes, tmp_path, "--config", FINETUNE)
    assert (usual.learning_rate, usual.schedule, usual.l2) == (1e-3, "cosine", 0.0)
    assert usual.augment["mosaic"] > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "../../mine"\n', "leads out of"),
        ('base = "/tmp/mine"\n', "leads out of"),
        ("base = 5\n", "base must be the name of a recipe"),
        ("base = []\n", "base must be the name of a recipe"),
    ],
)
def test_a_recipe_builds_on_those_of_the_zoo_alone(text, message, tmp_path):
    (tmp_path / "mine.train.toml").write_text(text)
    with pytest.raises(EffkerasError, match=message):
        recipe_of(str(tmp_path / "mine.train.toml"), zoo.spec("efficientnet-digits"))


def test_recipes_that_name_each_other_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "zoo_folder", lambda: tmp_path)
    (tmp_path / "a.train.toml").write_text('base = "b"\n')
    (tmp_path / "b.train.toml").write_text('base = "a"\n')
    with pytest.raises(EffkerasError, match="name each other as base"):
        recipe_of(str(tmp_path / "a.train.toml"), zoo.spec("efficientnet-digits"))
