"""Tables become records strictly: every mistake is named with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from effkeras.support.errors import EffkerasError
from effkeras.support.tables import LARGEST_TOML, merge, parse_toml, read_toml, to_record, to_table


@dataclass(frozen=True)
class Inner:
    width: float = 1.0
    depth: int = 2


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    scale: float = 0.5
    is_on: bool = False
    kind: Literal["hard", "soft"] = "hard"
    size: tuple[int, int] = (3, 4)
    blocks: tuple[str, ...] = ()
    inner: Inner = Inner()
    maybe: Inner | None = None
    channels: Mapping[str, int] = field(default_factory=dict)
    cards: Mapping[str, Inner] = field(default_factory=dict)


FULL = {
    "name": "a",
    "count": 7,
    "scale": 2.0,
    "is_on": True,
    "kind": "soft",
    "size": [5, 6],
    "blocks": ["x", "y"],
    "inner": {"width": 1.5, "depth": 3},
    "maybe": {"width": 2.5, "depth": 4},
    "channels": {"stem": 8},
    "cards": {"one": {"width": 3.5, "depth": 5}},
}


def test_a_full_table_round_trips():
    record = to_record(Outer, FULL, "f")
    assert record.inner == Inner(1.5, 3)
    assert record.maybe == Inner(2.5, 4)
    assert record.cards == {"one": Inner(3.5, 5)}
    assert record.size == (5, 6)
    assert record.blocks == ("x", "y")
    assert to_table(record) == FULL
    assert to_record(Outer, to_table(record), "f") == record


def test_what_is_empty_is_left_out():
    table = to_table(Outer("a"))
    assert set(table) == {"name", "count", "scale", "is_on", "kind", "size", "inner"}
    assert to_record(Outer, table, "f") == Outer("a")


def test_zero_and_false_are_not_empty():
    record = Outer("a", count=0, scale=0.0, is_on=False)
    assert to_table(record)["count"] == 0
    assert to_table(record)["scale"] == 0.0
    assert to_table(record)["is_on"] is False


def test_a_whole_number_is_a_number():
    scale = to_record(Outer, {"name": "a", "scale": 2}, "f").scale
    assert isinstance(scale, float)
    assert scale == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuont": 1}, "f: unknown key 'cuont'; did you mean 'count'?"),
        ({"inner": {"widht": 1}}, "f: inner: unknown key 'widht'; did you mean 'width'?"),
        ({"maybe": {"zzz": 1}}, "f: maybe: unknown key 'zzz'; known: depth, width"),
        ({"cards": {"one": {"zzz": 1}}}, "f: cards.one: unknown key 'zzz'; known: depth, width"),
        ({"count": True}, "f: count must be a whole number, not True"),
        ({"count": 1.0}, "f: count must be a whole number, not 1.0"),
        ({"count": "1"}, "f: count must be a whole number, not '1'"),
        ({"scale": "1"}, "f: scale must be a number, not '1'"),
        ({"scale": False}, "f: scale must be a number, not False"),
        ({"is_on": 1}, "f: is_on must be true or false, not 1"),
        ({"is_on": "true"}, "f: is_on must be true or false, not 'true'"),
        ({"name": 3}, "f: name must be a text, not 3"),
        ({"kind": "medium"}, "f: kind must be one of hard, soft, not 'medium'"),
        ({"size": [1]}, "f: size must be a list of 2, not [1]"),
        ({"size": [1, 2, 3]}, "f: size must be a list of 2, not [1, 2, 3]"),
        ({"size": [1, "2"]}, "f: size must be a whole number, not '2'"),
        ({"size": 3}, "f: size must be a list, not 3"),
        ({"blocks": "x"}, "f: blocks must be a list, not 'x'"),
        ({"blocks": ["x", 1]}, "f: blocks must be a text, not 1"),
        ({"inner": 3}, "f: inner must be a table, not 3"),
        ({"maybe": []}, "f: maybe must be a table, not []"),
        ({"channels": 3}, "f: channels must be a table, not 3"),
        ({"channels": {"stem": "8"}}, "f: channels.stem must be a whole number, not '8'"),
        ({"channels": {"stem": True}}, "f: channels.stem must be a whole number, not True"),
    ],
)
def test_a_mistake_is_named_with_its_place(change, message):
    with pytest.raises(EffkerasError) as caught:
        to_record(Outer, {"name": "a", **change}, "f")
    assert str(caught.value) == message


def test_a_missing_key_is_named():
    with pytest.raises(EffkerasError, match=r"^f: the key 'name' is missing$"):
        to_record(Outer, {"count": 1}, "f")


@pytest.mark.parametrize(
    ("base", "overrides", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"t": {"a": 1, "b": 2}}, {"t": {"b": 3}}, {"t": {"a": 1, "b": 3}}),
        ({"t": {"u": {"a": 1}, "b": 2}}, {"t": {"u": {"c": 3}}}, {"t": {"u": {"a": 1, "c": 3}, "b": 2}}),
        ({"l": [1, 2, 3]}, {"l": [4]}, {"l": [4]}),
        ({"t": {"a": 1}}, {"t": 5}, {"t": 5}),
        ({"t": 5}, {"t": {"a": 1}}, {"t": {"a": 1}}),
        ({}, {"t": {"a": 1}}, {"t": {"a": 1}}),
    ],
)
def test_overrides_go_on_top(base, overrides, merged):
    assert merge(base, overrides) == merged


def test_merging_leaves_its_arguments_alone():
    base, overrides = {"t": {"a": 1}}, {"t": {"b": 2}}
    merge(base, overrides)["t"]["c"] = 3
    assert base == {"t": {"a": 1}}
    assert overrides == {"t": {"b": 2}}


def test_toml_is_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "ä"\n[t]\nx = 1\n', encoding="utf-8")
    assert read_toml(path) == {"name": "ä", "t": {"x": 1}}


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"\xff\xfe"])
def test_broken_toml_names_its_file(content, tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(EffkerasError, match=r"a\.toml is not valid TOML"):
        read_toml(path)


def test_missing_toml_is_named(tmp_path):
    with pytest.raises(EffkerasError, match=r"cannot read .*none\.toml: No such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(EffkerasError, match="cannot read"):
        read_toml(tmp_path)


BOMBS = {
    "dotted key": "a." * 100_000 + "a = 1",
    "header": "[" + "a." * 100_000 + "a]",
    "lists": "a = " + "[" * 100_000,
    "tables": "a = " + "{a = " * 100_000,
    "lists and tables": "a = " + "[{a.b.c = " * 20,
    "decimal": "a = " + "9" * 100_000,
    "hexadecimal": "a = 0x" + "f" * 100_000,
    "beyond 64 bits": "a = 9223372036854775808",
    "large": "#" * (LARGEST_TOML + 1),
    "open strings": 'a = """' + '\\"""\n' * 100_000,
    "quotes": '"' + '\\"' * 100_000 + "\n",
    "not UTF-8": b"a = '\xff'",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_of_a_few_kilobytes_takes_neither_minutes_nor_gigabytes(name, tmp_path):
    """With tomllib alone, 200 kB took 27 s and 6 GB, or ended in RecursionError."""
    path, content = tmp_path / "a.toml", BOMBS[name]
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(EffkerasError, match=r"a\.toml.* (deep|bits|valid TOML|kB)") as caught:
        read_toml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_marks_in_texts_and_comments_are_no_depth():
    mark = "[{." * 50
    text = f"# {mark}\na = '{mark}'\nd = '''{mark}'''\n"
    text += f'b = "{mark}\\"{mark}"\nc = """{mark}\n""{mark}"""\n'
    assert set(parse_toml(text, "a")) == set("abcd")
    assert parse_toml("a.b.c = 1.5\n[x.y]\nz = [[1, 2], [{w = -1}]]\n" * 1, "a")["x"]["y"]["z"][1] == [
        {"w": -1}
    ]


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(EffkerasError) as caught:
        to_record(Outer, {"name": ["x" * 1000] * 1000}, "f")
    assert str(caught.value).startswith("f: name must be a text, not ['xxx")
    assert len(str(caught.value)) < 2000
