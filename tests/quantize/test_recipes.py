"""Recipes' names and files: what their words mean, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from effkeras import EffkerasError
from effkeras.support.files import safe_name
from export.tflite import main as export_main
from quantize import formats, recipes
from quantize.command import main as quantize_main
from quantize.command import work_folder
from quantize.compression import artifact_file
from quantize.specs import ClusterSpec, FriendlySpec

STEPS = ("friendly", "unsqueeze", "channels30", "prune50", "prune2of4", "cluster16", "distill")


@pytest.mark.parametrize("name", formats.names())
def test_a_format_alone_is_a_recipe(name):
    recipe = recipes.find(name)
    assert recipe.format == formats.find(name)
    assert recipe.steps == {}
    assert not recipe.trains


@pytest.mark.parametrize(
    ("name", "format_", "step"),
    [
        ("prune50-int8", "int8", ("prune", "sparsity", 0.5)),
        ("prune2of4-fp16", "fp16", ("prune", "pattern", "2:4")),
        ("prune1x4", "float32", ("prune", "pattern", "1x4")),
        ("channels30-qat-int8", "int8", ("channels", "keep", pytest.approx(0.7))),
        ("channels30-qat-int8", "int8", ("qat", "ranges", "ema")),
        ("cluster8-dynamic-int4", "dynamic-int4", ("cluster", "clusters", 8)),
        ("hardswish-int8", "int8", ("friendly", "activation", "hard_swish")),
        ("unsqueeze-w8a16", "w8a16", ("friendly", "squeeze", "remove")),
        ("distill-int8", "int8", ("distill", "weight", 0.5)),
    ],
)
def test_words_set_the_options_of_their_steps(name, format_, step):
    recipe = recipes.find(name)
    spec, option, value = step
    assert recipe.format.name == format_
    assert getattr(recipe.steps[spec], option) == value
    assert recipe.trains


def test_words_of_one_step_join():
    assert recipes.find("friendly-unsqueeze-int8").steps["friendly"] == FriendlySpec("relu6", "remove")
    assert recipes.find("unsqueeze-int8").steps["friendly"] == FriendlySpec("keep", "remove")
    assert recipes.find("cluster16-qat-int8").steps["qat"].keep_clusters
    assert not recipes.find("prune50-qat-int8").steps["qat"].keep_clusters
    assert recipes.find("equalize-unbias-mse-int8").ptq.ranges == "mse"
    assert recipes.find("equalize-unbias-mse-int8").ptq.equalize


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prun50-int8", r"no word 'prun50'; did you mean 'pruneN'\?"),
        ("prune50-prune60", "says 'prune' twice"),
        ("channels100", "more than 0 and less than 100 %"),
        ("prune0-int8", "more than 0 and less than 100 %"),
        ("cluster1", "at least 2 values"),
        ("qat", "end it with -int8"),
        ("qat-fp16", "end it with -int8"),
        ("qat-mse-int8", "qat trains the ranges: leave out"),
        ("percentile-fp16", "measures no ranges"),
        ("minmax-fp16", "measures no ranges"),
        ("int8-prune50", "the format, int8, comes last"),
        ("prune50-prune2of4", "says 'prune' twice"),
        ("friendly-hardswish", "friendly and hardswish exclude each other"),
        ("minmax-mse-int8", "minmax and mse exclude each other"),
        ("channels30-prune4of2", "4"),
        ("", "no word ''"),
    ],
)
def test_what_makes_no_sense_is_refused(name, message):
    with pytest.raises(EffkerasError, match=message):
        recipes.find(name)


def test_a_file_overrides_its_base(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "prune50-int8"\n[prune]\nscope = "global"\n[tune]\nepochs = 9\n[cluster]\n')
    recipe = recipes.find(file)
    assert (recipe.name, recipe.format.name) == ("mine", "int8")
    assert (recipe.steps["prune"].sparsity, recipe.steps["prune"].scope) == (0.5, "global")
    assert recipe.tune.epochs == 9
    assert recipe.steps["cluster"] == ClusterSpec()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prune]\nsparsty = 0.5\n", r"unknown key 'sparsty'; did you mean 'sparsity'\?"),
        ("[pruning]\n", r"unknown key 'pruning'"),
        ('[prune]\nsparsity = "half"\n', "sparsity"),
        ('base = "nope"\n', "no word 'nope'"),
        ("base = 3\n", "base must be a recipe's name"),
        ("[tune]\nepochs = 0\n", "at least one epoch"),
        ('format = "int9"\n', "int9"),
        ("[ptq\n", "not valid TOML"),
        ('name = "../x"\n', r"mine\.toml: the name '../x' contains a slash"),
        ('name = "/tmp/x"\n', "contains a slash"),
        ('name = ".."\n', "starts with a dot"),
        ('name = "a\\u0000b"\n', "cannot be printed"),
        ('name = ""\n', "the name '' is empty"),
        ("name = 5\n", r"mine\.toml: name must be a text, not 5"),
        ("summary = 5\n", r"mine\.toml: summary must be a text, not 5"),
        ("format = []\n", r"mine\.toml: format must be a text, not \[\]"),
        ("format = 8\n", r"mine\.toml: format must be a text, not 8"),
        ("ptq = 5\n", r"mine\.toml: ptq must be a table, not 5"),
        ("prune = 5\n", r"mine\.toml: prune must be a table, not 5"),
    ],
)
def test_a_broken_file_is_refused_with_its_name(text, message, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(EffkerasError, match=message):
        recipes.find(file)


@given(st.permutations(STEPS).flatmap(lambda order: st.integers(0, 4).map(lambda count: order[:count])))
def test_a_written_recipe_reads_as_itself(tmp_path_factory, words):
    kinds = [word.rstrip("0123456789of") for word in words]
    if len(set(kinds)) < len(kinds):
        return
    recipe = recipes.find("-".join([*words, "int8"]))
    file = tmp_path_factory.mktemp("recipe") / "again.toml"
    file.write_text(tomli_w.dumps(recipe.to_table()))
    again = recipes.find(file)
    assert again == recipe


@pytest.mark.parametrize("name", [*formats.names(), *(f"{step}-int8" for step in STEPS)])
def test_recipes_have_names_that_files_can_have(name):
    assert safe_name(recipes.find(name).name, "the name") == name


@pytest.mark.parametrize("name", ["../x", "{here}/x"])
@pytest.mark.parametrize("main", [quantize_main, export_main])
def test_a_recipes_name_leads_nowhere(name, main, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps({"base": "int8", "name": name.format(here=tmp_path)}))
    data = str(tmp_path / "data")
    assert main(["efficientnet-digits", "--recipe", str(file), "--data", data]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: the name ")
    assert error.count("\n") == 1
    assert list(tmp_path.rglob("*")) == [file]


def test_a_plan_that_was_never_read_is_looked_at_where_it_becomes_a_path(tmp_path):
    recipe = dataclasses.replace(recipes.find("int8"), name="../x")
    with pytest.raises(EffkerasError, match=r"the recipe's name '../x' contains a slash"):
        artifact_file(tmp_path, recipe, "float32")
    with pytest.raises(EffkerasError, match=r"the recipe's name '../x' contains a slash"):
        work_folder("efficientnet-digits", recipe.name)
