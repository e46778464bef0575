"""Adds a module to a package for one test, as if its file lay in the package's folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from effkeras.support.registry import Registry


def add_module(
    registry: Registry[Any], name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes `folder`/`name`.py, which the registry finds among the modules of its package."""
    (folder / f"{name}.py").write_text(source)
    package = importlib.import_module(registry._package)
    monkeypatch.setattr(registry, "_entries", registry.entries())
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.setattr(registry, "_is_complete", False)
    monkeypatch.delitem(sys.modules, f"{registry._package}.{name}", raising=False)
