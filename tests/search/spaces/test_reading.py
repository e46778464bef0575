"""Spaces are found by name or path; what they mean has a digest."""

from __future__ import annotations

import pytest
from support.space_files import BASE, space_from

import effkeras
from effkeras.search.spaces.reading import read_space

TEXT = 'kind = "blocks"\nsummary = "Three stages"\nwidth = [1, 2]\n' + BASE


def test_a_space_has_a_name_a_summary_and_its_table(tmp_path):
    space = space_from(tmp_path, TEXT)
    assert (space.name, space.summary, space.base.name) == ("own", "Three stages", "own")
    assert space.table["width"] == [1, 2]


def test_the_digest_is_of_what_a_file_means(tmp_path):
    digest = space_from(tmp_path, TEXT).digest
    same = {
        "comment": f"# why\n{TEXT}",
        "summary": TEXT.replace("Three", "3"),
        "order": TEXT.replace("\n[base]", "\n\n[base]"),
    }
    assert {space_from(tmp_path, text, name).digest for name, text in same.items()} == {digest}
    other = [
        TEXT.replace("[1, 2]", "[1, 3]"),
        TEXT.replace("head = 16", "head = 24"),
        TEXT.replace("[1, 2]", "[2, 1]"),
    ]
    assert len({space_from(tmp_path, text).digest for text in other} | {digest}) == 4


def test_a_base_beside_the_space_is_found(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(effkeras.spec("efficientnet-digits").to_toml())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.toml").write_text(effkeras.spec("efficientnet-digits").to_toml())
    for base in ("mine.toml", "run"):
        space = space_from(tmp_path, f'kind = "blocks"\nbase = "{base}"\nwidth = [1, 2]\n')
        assert space.base == effkeras.spec("efficientnet-digits")
    table = space_from(
        tmp_path, 'kind = "blocks"\nwidth = [1, 2]\n[base]\nbase = "mine"\nclasses = 3\nlabels = []\n'
    )
    assert (table.base.network, table.base.classes) == (space.base.network, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("digit-blocks", "there is no space 'digit-blocks'; did you mean 'digits-blocks'"),
        ("nowhere/x.toml", "cannot read nowhere/x.toml"),
        ("missing.toml", "cannot read missing.toml"),
    ],
)
def test_an_unknown_space_is_refused(name, reason):
    with pytest.raises(effkeras.EffkerasError, match=reason):
        read_space(name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind = ", "is not valid TOML"),
        ("", "kind must be one of blocks, cells, detector, scaling, not None"),
        ("kind = 'block'", "kind must be one of blocks, cells, detector, scaling, not 'block'"),
        ("kind = ['blocks']", "kind must be one of"),
        (TEXT.replace('"Three stages"', "3"), "summary must be a text, not 3"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, text, reason):
    with pytest.raises(effkeras.EffkerasError, match=r"own\.toml.*" + reason):
        space_from(tmp_path, text)
