"""Names and shapes of the official networks' variables (tests/golden/variables.zip)."""

from __future__ import annotations

import ast
import zipfile

from support.goldens import FOLDER


def official_models() -> list[str]:
    with zipfile.ZipFile(FOLDER / "variables.zip") as archive:
        return sorted(name.removesuffix(".txt") for name in archive.namelist())


def official_variables(model: str) -> dict[str, tuple[int, ...]]:
    with zipfile.ZipFile(FOLDER / "variables.zip") as archive:
        lines = archive.read(f"{model}.txt").decode().splitlines()
    pairs = (line.split(" ", 1) for line in lines)
    return {name: ast.literal_eval(shape) for name, shape in pairs}
