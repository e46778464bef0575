"""Weights by name: found in the cache or beside the definition, fetched only when asked to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tarfile
from pathlib import Path

import pytest

import effkeras
from effkeras import cli
from effkeras.definitions.definition import ModelSpec, WeightsSpec, spec_from_table
from effkeras.support.errors import EffkerasError
from effkeras.weights import cards
from effkeras.weights.cards import cached_file, fetch, locate

URL = "https://example.org/a/weights.tgz"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFKERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spec(**card: str) -> ModelSpec:
    return effkeras.spec("efficientnet-lite0").replace(name="some", weights={"far": WeightsSpec(**card)})


def test_what_is_not_there_is_named_with_its_address_and_place(cache):
    with pytest.raises(EffkerasError) as caught:
        locate(spec(url=URL), "far")
    assert URL in str(caught.value)
    assert str(cache / "some" / "far" / "weights.tgz") in str(caught.value)
    assert "effkeras weights some far --download" in str(caught.value)
    assert not cache.exists()


def test_names_that_nobody_knows_are_answered_with_those_that_are():
    for model, message in [
        ("efficientdet-lite0", r"no weights 'cocoo'.*knows coco, imagenet \(of its backbone\)"),
        ("squeezenet-1.1", "knows none by name: give a file of them"),
    ]:
        with pytest.raises(EffkerasError, match=message):
            locate(effkeras.spec(model), "cocoo")


def test_an_archive_is_unpacked_once(cache, tmp_path):
    (tmp_path / "d0").mkdir()
    for name in ("model.index", "model.data-00000-of-00001", "checkpoint"):
        (tmp_path / "d0" / name).write_text(name)
    file = cached_file(spec(url=URL), "far")
    file.parent.mkdir(parents=True)
    with tarfile.open(file, "w:gz") as tar:
        tar.add(tmp_path / "d0", "d0")
    found = locate(spec(url=URL), "far").path
    assert found == file.with_name("unpacked") / "d0"
    (found / "mark").touch()
    assert (locate(spec(url=URL), "far").path / "mark").exists()
    inside = locate(spec(url=URL, inside="d0/model"), "far").path
    assert inside == found / "model"
    (found.parent / "second").mkdir()
    (found.parent / "second" / "x.index").touch()
    with pytest.raises(EffkerasError, match="must hold one checkpoint, but holds: d0, second"):
        locate(spec(url=URL), "far")


def test_a_file_put_there_by_hand_is_checked(cache):
    url = "https://example.org/w.h5"
    digest = hashlib.sha256(b"right").hexdigest()
    file = cached_file(spec(url=url), "far")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"wrong")
    with pytest.raises(EffkerasError, match="is not what was published"):
        locate(spec(url=url, sha256=digest), "far")
    file.write_bytes(b"right")
    assert locate(spec(url=url, sha256=digest), "far").path == file


def test_fetching_what_is_there_downloads_nothing(cache, monkeypatch):
    monkeypatch.setattr(cards, "download", None)
    file = cached_file(spec(url=URL), "far")
    file.parent.mkdir(parents=True)
    file.touch()
    assert fetch(spec(url=URL), "far") == file


def test_fetching_an_unknown_name_gives_a_hint():
    with pytest.raises(EffkerasError, match="did you mean 'far'"):
        fetch(spec(url=URL), "fat")


def test_a_definitions_own_file_lies_beside_it(tmp_path):
    definition = spec(file="mine.keras")
    assert locate(definition, "far", tmp_path).path == tmp_path / "mine.keras"
    with pytest.raises(EffkerasError, match="leads out"):
        locate(spec(file="../mine.keras"), "far", tmp_path)
    with pytest.raises(EffkerasError, match="lies beside the definition"):
        locate(definition, "far")


def test_building_a_definition_elsewhere_finds_its_weights(tmp_path):
    model = effkeras.build("efficientnet-digits", weights="digits")
    model.save(tmp_path / "own.keras")
    text = effkeras.spec("efficientnet-digits").to_toml().replace('"digits.keras"', '"own.keras"')
    (tmp_path / "mine.toml").write_text(text.replace('name = "efficientnet-digits"', 'name = "mine"'))
    built = effkeras.build(tmp_path / "mine.toml", weights="digits")
    assert (built.get_weights()[0] == model.get_weights()[0]).all()


def test_every_card_of_the_zoo_is_complete():
    seen = {}
    for name in effkeras.list_models():
        for label, card in effkeras.spec(name).weights.items():
            assert card.licence, (name, label)
            assert card.source, (name, label)
            assert bool(card.file) != bool(card.url)
            assert card.url == "" or re.fullmatch(r"https://\S+\.(tgz|tar\.gz|h5)", card.url)
            assert (card.mean is None) == (card.std is None)
            assert seen.setdefault(card.url or (name, card.file), (name, label)) == (name, label)
    assert len(seen) > 100


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("d0", {"coco", "advprop"}),
        ("d7x", {"coco"}),
        ("efficientdet-lite3x", {"coco"}),
        ("b7", {"imagenet", "imagenet-keras", "advprop", "noisy-student"}),
        ("l2", {"noisy-student", "noisy-student-475"}),
        ("efficientnet-lite4", {"imagenet"}),
        ("efficientnetv2-xl", {"imagenet-21k", "imagenet-21k-ft1k"}),
        ("mobilenet-v3-small", {"imagenet"}),
        ("nasnet-mobile", {"imagenet"}),
    ],
)
def test_published_names(model, names):
    assert set(effkeras.spec(model).weights) == names


def test_a_card_survives_as_a_table():
    definition = effkeras.spec("d0")
    assert definition.weights["advprop"].mean == (127.5,) * 3
    assert spec_from_table(definition.to_table(), "d0") == definition


DEFINITION = """
base = "efficientnet-lite0"
name = {name}
[weights.{card}]
url = {url}
"""


@pytest.mark.parametrize("name", ["../../evil", "{here}/evil"])
@pytest.mark.parametrize("place", ["name", "card"])
def test_names_lead_nowhere_but_into_the_cache(name, place, tmp_path, monkeypatch, capsys):
    def fake(url: str, to: Path, check: object) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.touch()

    monkeypatch.setattr(cards, "download", fake)
    names = {"name": "some", "card": "far"} | {place: name.format(here=tmp_path)}
    file = tmp_path / "mine.toml"
    file.write_text(DEFINITION.format(url=json.dumps(URL), **{k: json.dumps(v) for k, v in names.items()}))
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["weights", str(file), names["card"], "--download"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: the ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "url",
    [
        "https://a.org",
        "https://a.org/",
        "https://a.org/x/..",
        "https://a.org/.h5",
        "https://a.org/a%b\\c",
        "http://[",
    ],
)
def test_a_url_must_end_in_the_name_of_a_file(url, cache):
    for ask in (cached_file, fetch, locate):
        with pytest.raises(EffkerasError, match=r"some: the weights 'far': the file .* choose a plain name"):
            ask(spec(url=url), "far")
    assert not cache.exists()


def test_names_that_were_never_read_are_looked_at_where_they_become_a_path(cache):
    with pytest.raises(EffkerasError, match=r"the model's name '../evil' contains a slash"):
        cached_file(dataclasses.replace(spec(url=URL), name="../evil"), "far")
    with pytest.raises(EffkerasError, match=r"the weights' name '../evil' contains a slash"):
        cached_file(dataclasses.replace(spec(), weights={"../evil": WeightsSpec(url=URL)}), "../evil")


def test_without_a_published_digest_that_of_the_first_file_counts(cache):
    """82 of the zoo's 105 files have none; a file that changes later is noticed."""
    url = "https://example.org/w.h5"
    file = cached_file(spec(url=url), "far")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"first")
    assert locate(spec(url=url), "far").path == file
    kept = file.with_name("w.h5.sha256")
    assert kept.read_text().split() == [hashlib.sha256(b"first").hexdigest(), "w.h5"]
    assert locate(spec(url=url), "far").path == file
    file.write_bytes(b"other")
    with pytest.raises(
        EffkerasError, match=r"is not what https://example\.org/w\.h5 was at first.*delete .*sha256"
    ):
        locate(spec(url=url), "far")
    kept.unlink()
    assert locate(spec(url=url), "far").path == file


def test_a_later_download_is_compared_with_the_first(cache, monkeypatch):
    url = "https://example.org/w.h5"
    content = [b"first", b"other"]

    def fake(url, to, accept):
        part = to.with_name("part")
        to.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.pop(0))
        accept(part)
        part.replace(to)

    monkeypatch.setattr(cards, "download", fake)
    fetch(spec(url=url), "far").unlink()
    with pytest.raises(EffkerasError, match="was at first"):
        fetch(spec(url=url), "far")
    assert not cached_file(spec(url=url), "far").exists()
