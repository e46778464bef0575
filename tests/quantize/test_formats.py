from __future__ import annotations

import pytest

from effkeras import EffkerasError
from quantize import recipe
from quantize.formats import Format, check_io, find, names


def test_the_vocabulary():
    assert names()[:1] == ["float32"]
    assert {"fp16", "w8a16", "dynamic", "int8", "dynamic-int4", "int4"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_recipe_is_found_and_explained(name):
    found = find(name)
    assert isinstance(found, Format)
    assert found.name == name
    assert found.summary
    assert found.to_table()["name"] == name
    assert find(found) is found
    assert recipe(name) == found


def test_recipes_with_integer_activations_need_images():
    assert {name for name in names() if find(name).needs_data} >= {"w8a16", "int8", "int4"}
    assert not any(find(name).needs_data for name in ("float32", "fp16", "dynamic", "dynamic-int4"))


def test_an_unknown_recipe_gets_a_hint():
    with pytest.raises(EffkerasError, match=r"no recipe 'int88'; did you mean 'int8'\?"):
        find("int88")


@pytest.mark.parametrize("io", ["float32", "uint8", "int8"])
def test_int8_can_have_any_inputs_and_outputs(io):
    check_io(find("int8"), io)


@pytest.mark.parametrize("name", ["float32", "fp16", "dynamic"])
@pytest.mark.parametrize("io", ["uint8", "int8"])
def test_float_activations_have_float_inputs_and_outputs(name, io):
    check_io(find(name), "float32")
    with pytest.raises(EffkerasError, match=f"{name} computes activations in float32.*--recipe int8"):
        check_io(find(name), io)


def test_an_unknown_io_type_gets_a_hint():
    with pytest.raises(EffkerasError, match="did you mean 'uint8'"):
        check_io(find("int8"), "uin8")
