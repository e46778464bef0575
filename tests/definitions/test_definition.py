"""Definitions are complete, survive being written, and refuse what cannot be built."""

from __future__ import annotations

import dataclasses
import re
import tomllib

import pytest
import tomli_w

import effkeras
from effkeras.definitions.definition import SCHEMA, ModelSpec, WeightsSpec, detector_parts, spec_from_table
from effkeras.definitions.networks import DropBlockSpec
from effkeras.support.errors import EffkerasError


def changed(spec: ModelSpec, path: str, value: object) -> ModelSpec:
    """The spec with one value exchanged: `changed(spec, "fpn.cells", 2)`."""
    table, _, key = path.rpartition(".")
    if not table:
        return spec.replace(**{key: value})
    return spec.replace(**{table: dataclasses.replace(getattr(spec, table), **{key: value})})


@pytest.mark.parametrize("name", effkeras.list_models())
def test_a_definition_survives_being_written(name):
    spec = effkeras.spec(name)
    assert spec_from_table(tomllib.loads(spec.to_toml()), name) == spec


@pytest.mark.parametrize("name", effkeras.list_models())
def test_a_written_definition_is_read_like_a_file(name, tmp_path):
    spec = effkeras.spec(name)
    path = tmp_path / "model.toml"
    path.write_text(spec.to_toml())
    assert effkeras.spec(path) == spec


@pytest.mark.parametrize(
    "path_and_value",
    [
        ("labels", tuple(f"c{index}" for index in range(90))),
        ("channels", {"stem_conv": 24}),
        ("fpn.levels", (3, 8)),
        ("network.squeeze_excite", False),
        ("anchors.aspect_ratios", (1.0, 3.0)),
        ("nms.method", "hard"),
        ("weights", {"mine": WeightsSpec(file="mine.keras")}),
        ("network.survival", 0.0),
    ],
)
def test_what_is_changed_survives_being_written(path_and_value):
    spec = changed(effkeras.spec("d0"), *path_and_value)
    assert spec_from_table(tomllib.loads(spec.to_toml()), "d0") == spec
    assert spec != effkeras.spec("d0")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("classes", 0, "classes must be at least 1, not 0"),
        ("labels", ("a", "b"), "2 labels for 90 classes"),
        ("category_ids", (1, 2), "2 category_ids for 90 classes"),
        ("input.size", (31, 64), "input size (31, 64) is below 32 pixels"),
        ("input.size", (64, 0), "is below 32 pixels"),
        ("input.std", (1.0, 0.0, 1.0), "std must be above 0"),
        ("input.crop", 0.0, "crop"),
        ("input.crop", 1.5, "crop"),
        ("input.size", (32768, 64), "input size (32768, 64) is above 16384 pixels"),
        ("network.width", 0.0, "width must be above 0 and at most 100, not 0"),
        ("network.width", float("nan"), "width must be above 0 and at most 100, not nan"),
        ("network.width", float("inf"), "width must be above 0 and at most 100, not inf"),
        ("network.depth", -1.0, "depth must be above 0 and at most 100, not -1"),
        ("network.drop_block", DropBlockSpec(keep=0.0), "drop_block.keep"),
        ("network.drop_block", DropBlockSpec(size=0), "drop_block.size"),
        ("network.dropout", 1.0, "dropout and survival"),
        ("network.dropout", -0.1, "dropout and survival"),
        ("network.survival", 1.1, "dropout and survival"),
        ("network.blocks", (), "blocks"),
        ("network.stem", 0, "stem and head"),
        ("network.head", -8, "stem and head"),
        ("channels", {"stem_conv": 0}, "channels"),
        ("fpn.levels", (2, 7), "levels must start at 3"),
        ("fpn.levels", (3, 4), "levels must start at 3"),
        ("fpn.levels", (3, 9), "levels must start at 3"),
        ("fpn.channels", 0, "fpn channels and cells"),
        ("fpn.cells", 0, "fpn channels and cells"),
        ("head.repeats", -1, "head repeats"),
        ("anchors.scale", 0.0, "anchors"),
        ("anchors.octaves", 0, "anchors"),
        ("anchors.aspect_ratios", (), "anchors"),
        ("anchors.aspect_ratios", (1.0, -2.0), "anchors"),
        ("nms.sigma", 0.0, "nms"),
        ("nms.max_detections", 0, "nms"),
        ("fpn", None, "is not a detector"),
        ("head", None, "is not a detector"),
        ("anchors", None, "is not a detector"),
        ("nms", None, "is not a detector"),
    ],
)
def test_impossible_values_are_refused(path, value, message):
    with pytest.raises(EffkerasError, match=re.escape(message)) as caught:
        changed(effkeras.spec("d0"), path, value)
    assert "efficientdet-d0" in str(caught.value)


def test_an_impossible_value_in_a_table_names_its_file():
    table = {**effkeras.spec("d0").to_table(), "classes": -2, "category_ids": []}
    with pytest.raises(EffkerasError, match=r"my\.toml: classes must be at least 1, not -2"):
        spec_from_table(table, "my.toml")


def test_another_schema_is_refused():
    table = {**effkeras.spec("b0").to_table(), "schema": SCHEMA + 1, "unheard_of": 1}
    with pytest.raises(EffkerasError, match=rf"my\.toml: schema {SCHEMA + 1} is unknown"):
        spec_from_table(table, "my.toml")


def test_only_detectors_have_detector_parts():
    assert detector_parts(effkeras.spec("d0")).fpn.cells == 3
    with pytest.raises(EffkerasError, match="efficientnet-b0 is not a detector"):
        detector_parts(effkeras.spec("b0"))


def test_levels_are_those_of_the_pyramid():
    assert list(effkeras.spec("d0").levels) == [3, 4, 5, 6, 7]


def test_anchors_per_location_are_scales_times_shapes():
    assert effkeras.spec("d0").anchors.per_location == 9
    assert changed(effkeras.spec("d0"), "anchors.octaves", 2).anchors.per_location == 6


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "", ".", "a\nb", "a\\b", "a" * 300])
def test_a_name_that_files_cannot_have_is_refused(name, tmp_path):
    spec = effkeras.spec("efficientnet-lite0")
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps({"base": "efficientnet-lite0", "name": name}))
    for read in (lambda: effkeras.spec(file), lambda: spec.replace(name=name)):
        with pytest.raises(EffkerasError, match="files are named after it") as caught:
            read()
        assert str(caught.value).isprintable()
    card = {"url": "https://example.org/w.h5"}
    file.write_text(tomli_w.dumps({"base": "efficientnet-lite0", "weights": {name: card}}))
    with pytest.raises(EffkerasError, match=r"mine\.toml: the weights' name .*files are named after it"):
        effkeras.spec(file)


@pytest.mark.parametrize("key", ["base", "backbone"])
@pytest.mark.parametrize("name", ["../other", "{folder}/other", "x/../../other", "a\0b", "n" * 300])
def test_a_base_elsewhere_is_not_read(key, name, tmp_path):
    """A definition may come from anyone; only the zoo and its own folder hold what it builds on."""
    for suffix in ("", ".toml"):
        (tmp_path / f"other{suffix}").write_text('base = "efficientnet-lite0"\nname = "other"\n')
    folder = tmp_path / "given"
    (folder / "x").mkdir(parents=True)
    own = {key: name.format(folder=tmp_path)} | ({"base": "efficientdet-lite0"} if key == "backbone" else {})
    (folder / "mine.toml").write_text(tomli_w.dumps(own))
    with pytest.raises(EffkerasError, match=r"mine\.toml: the file name .* leads out of"):
        effkeras.spec(folder / "mine.toml")
    (folder / "other.toml").write_text('base = "efficientnet-lite0"\n')
    (folder / "mine.toml").write_text('base = "other"\n')
    assert effkeras.spec(folder / "mine.toml").name == "mine"


def test_a_file_that_no_model_can_be_called_after_needs_a_name(tmp_path):
    file = tmp_path / ".hidden.toml"
    file.write_text('base = "efficientnet-lite0"\n')
    with pytest.raises(EffkerasError, match=r"the name '\.hidden' starts with a dot"):
        effkeras.spec(file)
    file.write_text('base = "efficientnet-lite0"\nname = "shown"\n')
    assert effkeras.spec(file).name == "shown"
