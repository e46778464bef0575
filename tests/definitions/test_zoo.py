"""Models are found by name or path, and a mistake in a definition says what to do."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

import effkeras
from effkeras.building.backbones import with_backbone
from effkeras.definitions import inheritance, zoo
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.counting import count
from effkeras.support.errors import EffkerasError
from effkeras.support.tables import read_toml as original


@pytest.fixture
def own_zoo(tmp_path, monkeypatch) -> Path:
    """A copy of the zoo that a test may change."""
    folder = tmp_path / "models"
    shutil.copytree(zoo.zoo_folder(), folder, ignore=shutil.ignore_patterns("*.keras"))
    monkeypatch.setattr(zoo, "zoo_folder", lambda: folder)
    return folder


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refused(path: Path | str) -> str:
    with pytest.raises(EffkerasError) as caught:
        effkeras.spec(path)
    return str(caught.value)


def test_the_zoo_lists_models_and_nothing_else():
    names = effkeras.list_models()
    assert names == sorted(names)
    assert {"efficientnet-b0", "efficientnet-lite0", "efficientdet-d0", "efficientdet-lite0"} <= set(names)
    assert not [name for name in names if name.endswith(("-base", ".train"))]


@pytest.mark.parametrize("name", effkeras.list_models())
def test_every_listed_model_has_its_own_name(name):
    spec = effkeras.spec(name)
    assert isinstance(spec, ModelSpec)
    assert spec.name == name
    assert spec.summary


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("b0", "efficientnet-b0"),
        ("v2-s", "efficientnetv2-s"),
        ("edgetpu-s", "efficientnet-edgetpu-s"),
        ("d0", "efficientdet-d0"),
        ("efficientdet-d0", "efficientdet-d0"),
        ("efficientnetb0", "efficientnet-b0"),
        ("mobilenetv3large", "mobilenet-v3-large"),
        ("nasnetmobile", "nasnet-mobile"),
    ],
)
def test_short_names_work_where_they_are_clear(short, long):
    assert effkeras.spec(short) == effkeras.spec(long)
    assert effkeras.spec(short).name == long


@pytest.mark.parametrize("short", ["lite0", "digits"])
def test_an_ambiguous_name_says_both(short):
    message = refused(short)
    assert f"{short!r} is ambiguous" in message
    assert f"efficientdet-{short} or efficientnet-{short}" in message


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("efficientnet-bo", "did you mean 'efficientnet-b"),
        ("efficientdet-dd0", "did you mean 'efficientdet-d0'?"),
        ("zzzz", "known: b0, b1"),
        ("base", "there is no model 'base'"),
    ],
)
def test_an_unknown_name_suggests(wrong, hint):
    message = refused(wrong)
    assert f"there is no model {wrong!r}" in message
    assert hint in message


@pytest.mark.parametrize("name", effkeras.list_models())
def test_published_figures_are_those_counted(name):
    spec = effkeras.spec(name)
    if spec.published is None or spec.family == "application":
        return  # tests/graph/test_applications.py builds the latter
    counts = count(spec)
    assert spec.published.parameters in (0, counts.trainable)
    if spec.published.macs:  # papers round, and some counters see more than multiply-adds
        assert counts.macs == pytest.approx(spec.published.macs, rel=0.07)


def test_a_file_may_start_from_a_zoo_model(tmp_path):
    path = written(tmp_path / "mine.toml", 'base = "b0"\nclasses = 7\n[network]\nwidth = 1.1\nhead = 100\n')
    spec, b0 = effkeras.spec(path), effkeras.spec("b0")
    assert (spec.name, spec.classes, spec.network.width, spec.network.head) == ("mine", 7, 1.1, 100)
    assert spec.network.blocks == b0.network.blocks
    assert spec.input == b0.input
    assert spec.published is None  # the figures are b0's own
    assert spec.summary == ""
    assert count(spec).trainable != count(b0).trainable
    model = effkeras.build(path, input_shape=(32, 32))
    trainable = sum(int(weight.value.shape.num_elements()) for weight in model.trainable_weights)
    assert trainable == count(spec).trainable


def test_a_file_may_start_from_its_neighbour(tmp_path):
    written(tmp_path / "first.toml", 'base = "efficientdet-d0"\n[fpn]\ncells = 1\n')
    path = written(tmp_path / "second.toml", 'base = "first"\n[fpn]\nchannels = 32\n')
    fpn = effkeras.spec(str(path)).fpn
    assert (fpn.cells, fpn.channels, fpn.levels) == (1, 32, (3, 7))


def test_a_detector_may_take_another_backbone(tmp_path):
    text = 'base = "efficientdet-d0"\nbackbone = "efficientnet-lite0"\n[network]\nwidth = 0.5\n'
    spec = effkeras.spec(written(tmp_path / "mix.toml", text))
    lite = effkeras.spec("efficientnet-lite0").network
    assert spec.backbone == "efficientnet-lite0"
    assert (spec.network.activation, spec.network.blocks) == (lite.activation, lite.blocks)
    assert spec.network.fixed_ends
    assert spec.network.width == 0.5
    assert spec.network.survival == lite.survival  # what d0 says of its own backbone is gone
    assert spec.fpn == effkeras.spec("d0").fpn
    assert count(spec).trainable < count(effkeras.spec("d0")).trainable


@pytest.mark.parametrize("backbone", ["densenet121", "squeezenet-1.1", "nasnet-mobile", "mobilenet-v2", "b1"])
def test_a_backbone_in_a_file_is_the_option_of_build(backbone, tmp_path):
    path = written(tmp_path / "mine.toml", f'base = "d0"\nbackbone = "{backbone}"\n')
    spec, option = effkeras.spec(path), with_backbone(effkeras.spec("d0"), backbone)
    assert (spec.network, spec.input, spec.fpn) == (option.network, option.input, option.fpn)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "b0"\nbackbone = "b1"', "only a detector has a backbone"),
        ('base = "b0"\n[input]\nmean = [nan, 1, 1]', "mean must be a finite number, not nan"),
        ('base = "b0"\n[network]\nbatch_norm = { epsilon = -1 }', "batch_norm needs a momentum"),
        ('base = "b0"\n[network]\nround_limit = -5', "round_limit must lie between 0 and 1"),
        ('base = "b0"\n[network]\nkind = ["a"]', "kind must be one of application, blocks"),
        ('base = "d0"\n[fpn]\ncells = 100000', "fpn cells and head repeats must be at most 100"),
        ('base = "d0"\n[nms]\niou_threshold = -1', "iou_threshold must lie between 0 and 1"),
        ('base = "squeezenet-1.1"\n[network]\nstages = [["s16"]]', "mine.toml: a fire module is written"),
        ('base = "b0"\nclases = 3', "mine.toml: unknown key 'clases'; did you mean 'classes'?"),
        (
            'base = "b0"\n[network]\nwidht = 3',
            "mine.toml: network: unknown key 'widht'; did you mean 'width'?",
        ),
        ('base = "b0"\nclasses = "3"', "mine.toml: classes must be a whole number, not '3'"),
        ('base = "b0"\nclasses = 0', "mine.toml: classes must be at least 1"),
        ('base = "b0"\nschema = 2', "mine.toml: schema 2 is unknown"),
        ('family = "efficientnet"', "mine.toml: the key 'input' is missing"),
        (
            'base = "b0"\nfamily = "resnet"',
            "family must be one of efficientnet, efficientnetv2, efficientdet",
        ),
        ('base = "b00"', "there is no model 'b00'; did you mean 'b0'?"),
        ("base = 3", "mine.toml: base must be the name of a definition, not 3"),
        ('base = "d0"\nbackbone = "b00"', "there is no model 'b00'; did you mean 'b0'?"),
        ('base = "d0"\nbackbone = 3', "mine.toml: backbone must be a text, not 3"),
        ('base = "d0"\nnetwork = 3', "mine.toml: network must be a table, not 3"),
        ('base = "b0"\nfamily = "efficientdet"', "is not a detector: it has no fpn"),
        ("classes = ", "mine.toml is not valid TOML"),
        ('base = "mine"', "definitions name each other as base"),
    ],
)
def test_a_mistake_in_a_file_says_what_is_wrong(text, message, tmp_path):
    assert message in refused(written(tmp_path / "mine.toml", text))


def test_a_backbone_must_be_a_network(tmp_path):
    text = 'base = "d0"\nbackbone = "efficientdet-lite0"'
    assert "the backbone 'efficientdet-lite0' has no network" in refused(written(tmp_path / "a.toml", text))


def test_circular_bases_are_refused(tmp_path):
    first = written(tmp_path / "first.toml", 'base = "second"')
    written(tmp_path / "second.toml", 'base = "first"')
    message = refused(first)
    assert "definitions name each other as base" in message
    assert message.count("first.toml") == 2


def test_a_base_for_others_is_no_model():
    path = zoo.zoo_folder() / "efficientnet" / "base.toml"
    assert "is abstract: build a definition" in refused(path)


def test_a_missing_file_is_named(tmp_path):
    assert "there is no definition" in refused(tmp_path / "none.toml")
    assert "there is no definition" in refused("models/none")


def test_a_new_definition_is_found_at_once(own_zoo):
    written(own_zoo / "efficientnet" / "b-half.toml", 'base = "b0"\nsummary = "x"\n[network]\nwidth = 0.5\n')
    assert "efficientnet-b-half" in effkeras.list_models()
    spec = effkeras.spec("b-half")
    assert (spec.name, spec.network.width) == ("efficientnet-b-half", 0.5)
    assert zoo.definition_path("efficientnet-b-half") == own_zoo / "efficientnet" / "b-half.toml"


def test_a_new_name_may_make_a_short_one_ambiguous(own_zoo):
    shutil.copy(own_zoo / "efficientnet" / "b0.toml", own_zoo / "efficientdet" / "b0.toml")
    assert "efficientdet-b0 or efficientnet-b0" in refused("b0")


def test_a_new_abstract_definition_can_only_be_a_base(own_zoo):
    folder = own_zoo / "efficientnet"
    abstract = written(folder / "half-base.toml", 'base = "b0"\nabstract = true\n[network]\nwidth = 0.5\n')
    written(folder / "half.toml", 'base = "half-base"\n')
    assert effkeras.spec("half").network.width == 0.5
    assert "efficientnet-half-base" not in effkeras.list_models()
    assert "is abstract: build a definition" in refused(abstract)


def test_there_is_no_definition_of_an_unknown_name():
    assert zoo.definition_path("efficientnet-none") is None


def test_a_run_folder_is_its_model(tmp_path):
    spec = zoo.spec("efficientnet-digits").replace(name="mine")
    (tmp_path / "model.toml").write_text(spec.to_toml())
    assert zoo.spec(tmp_path) == spec


def test_a_keras_file_is_its_model(tmp_path):
    """Read without Keras: the definition travels in the file."""
    spec = zoo.spec(zoo.definition_path("efficientdet-digits").parent / "digits.keras")
    assert spec.replace(weights={}, labels=(), category_ids=()) == zoo.spec("efficientdet-digits").replace(
        weights={}, labels=(), category_ids=()
    )
    assert spec.labels == tuple("0123456789")


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b'{"config": 3}', b'{"config": {"layers": [7]}}']
)
def test_a_keras_file_without_a_definition_is_refused(tmp_path, content):
    file = tmp_path / "some.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        if content is not None:
            archive.writestr("config.json", content)
    with pytest.raises(EffkerasError, match=r"some\.keras is corrupt or not a Keras 3 model"):
        zoo.spec(file)


def test_a_foreign_keras_file_carries_no_definition(tmp_path):
    file = tmp_path / "theirs.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", '{"config": {"layers": [{"class_name": "Dense", "config": {}}]}}')
    with pytest.raises(EffkerasError, match="carries no definition"):
        zoo.spec(file)


def test_a_model_comes_with_its_weights(tmp_path):
    assert zoo.saved_weights("efficientnet-digits") is None
    assert zoo.saved_weights("some/model.toml") is None
    assert zoo.saved_weights("some/model.keras") == Path("some/model.keras")
    (tmp_path / "model.toml").write_text("")
    with pytest.raises(EffkerasError, match="training was interrupted"):
        zoo.saved_weights(tmp_path)
    (tmp_path / "model.keras").touch()
    assert zoo.saved_weights(tmp_path) == tmp_path / "model.keras"


def test_a_definition_is_read_once_until_a_file_that_it_is_made_of_changes(own_zoo, monkeypatch):
    read = []
    for module in (zoo, inheritance):
        monkeypatch.setattr(module, "read_toml", lambda path: read.append(path) or original(path))
    first = effkeras.spec("d0")
    assert effkeras.spec("d0") is first
    assert len(read) == len(set(read)) > 2  # families.toml, the definition, its bases and its backbone
    names = effkeras.list_models()
    seen = len(read)
    assert effkeras.list_models() == names
    assert len(read) == seen
    base = own_zoo / "efficientdet" / "base.toml"
    written(base, base.read_text() + "\n# as it was\n")
    assert effkeras.spec("d0") == first
    assert read[seen:] == [base]
    backbone = own_zoo / "efficientnet" / "b0.toml"
    written(backbone, backbone.read_text() + "\n[network]\ndropout = 0.375\n")
    assert effkeras.spec("d0").network.dropout == 0.375


def test_definitions_added_and_removed_show_at_once(own_zoo):
    assert "efficientnet-mine" not in effkeras.list_models()
    mine = written(own_zoo / "efficientnet" / "mine.toml", 'base = "b0"\nclasses = 7\n')
    assert "efficientnet-mine" in effkeras.list_models()
    assert effkeras.spec("efficientnet-mine").classes == 7
    written(mine, 'base = "b0"\nclasses = 8\n')
    assert effkeras.spec("efficientnet-mine").classes == 8
    mine.unlink()
    assert "there is no model 'efficientnet-mine'" in refused("efficientnet-mine")


def test_a_base_that_appears_beside_a_definition_is_taken(tmp_path):
    mine = written(tmp_path / "mine.toml", 'base = "b0"\n')
    assert effkeras.spec(mine).classes == 1000
    other = effkeras.spec("b0").replace(classes=12).to_toml()
    written(tmp_path / "b0.toml", other)
    assert effkeras.spec(mine).classes == 12
