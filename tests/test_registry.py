"""A registry finds what the modules of its package add, and what others add later."""

import sys
from pathlib import Path

import pytest

from effkeras.support.errors import EffkerasError
from effkeras.support.registry import Registry

MODULE = """
from {package} import SHAPES

@SHAPES.register("square")
class Square: ...
"""


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[type]:
    package = f"shapes_{tmp_path.name}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(
        f"from effkeras.support.registry import Registry\nSHAPES = Registry('shape', '{package}')\n"
    )
    (tmp_path / package / "square.py").write_text(MODULE.format(package=package))
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__(package).SHAPES


def test_a_module_is_imported_when_its_entry_is_asked_for(shapes: Registry[type]) -> None:
    assert not any(name.endswith(".square") and name.startswith("shapes_") for name in sys.modules)
    assert shapes.get("square").__name__ == "Square"
    assert list(shapes.entries()) == ["square"]


def test_a_module_elsewhere_adds_an_entry(shapes: Registry[type]) -> None:
    @shapes.register("circle")
    class Circle: ...

    assert shapes.get("circle") is Circle
    assert list(shapes.entries()) == ["circle", "square"]


def test_an_unknown_name_gets_the_closest_one(shapes: Registry[type]) -> None:
    with pytest.raises(EffkerasError, match="no shape 'sqare'; did you mean 'square'"):
        shapes.get("sqare")


def test_two_entries_of_one_name_are_an_error(shapes: Registry[type]) -> None:
    shapes.get("square")
    with pytest.raises(ValueError, match="two shapes named 'square'"):
        shapes.register("square")(int)
