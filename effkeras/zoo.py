"""Finds definitions by name and resolves them into a ModelSpec.

A definition is a TOML file. A leaf states `base` (a definition that it starts from) and its own
overrides; a detector states `backbone`, whose network it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effkeras.definition import ModelSpec, spec_from_table
from effkeras.errors import EffkerasError, did_you_mean
from effkeras.tables import Table, merge, read_toml, to_record

_ONLY_IN_FILES = ("base", "abstract")
_NOT_MODELS = ("base", ".train")


@dataclass(frozen=True, slots=True)
class Family:
    """A folder of the zoo: its title, and patterns of its models' names (`{}` is a file's stem)."""

    title: str = ""
    long: str = ""
    short: str = ""

    def long_name(self, path: Path) -> str:
        """The long name of a definition of this family."""
        return self.long.format(path.stem) if self.long else f"{path.parent.name}-{path.stem}"


def zoo_folder() -> Path:
    """Where the definitions are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    packaged = package / "_zoo"
    return packaged if packaged.is_dir() else package.parent / "models"


def list_models() -> list[str]:
    """Long names of all models of the zoo, sorted."""
    return sorted(_definitions())


def spec(name_or_path: str | Path) -> ModelSpec:
    """The resolved definition of a zoo model (short or long name), a TOML file or a run folder.

    Raises EffkerasError for an unknown or ambiguous name and for a broken definition.
    """
    path = _locate(str(name_or_path))
    table = _expand_backbone(_with_bases(path, ()), path)
    if table.get("abstract"):
        raise EffkerasError(f"{path} is a base for other definitions; build one that names it as base")
    own = {key: value for key, value in table.items() if key not in _ONLY_IN_FILES}
    return spec_from_table({"name": _long_name(path), **own}, str(path))


def definition_path(name: str) -> Path | None:
    """The file that defines a zoo model of this long name, if there is one."""
    return _definitions().get(name)


def definition_folder(name_or_path: object) -> Path | None:
    """The folder of a definition given as a file or a run folder; None for names and records."""
    if not isinstance(name_or_path, str | Path):
        return None
    path = Path(name_or_path)
    if (path / "model.toml").is_file():
        return path
    return path.parent if path.suffix == ".toml" and path.is_file() else None


def _definitions() -> dict[str, Path]:
    files = [path for path in zoo_folder().glob("*/*.toml") if not path.stem.endswith(_NOT_MODELS)]
    patterns = families()

    def name(path: Path) -> str:
        return patterns.get(path.parent.name, Family()).long_name(path)

    return {name(path): path for path in sorted(files)}


def families() -> dict[str, Family]:
    """The families of the zoo by folder, in the order they are shown."""
    file = zoo_folder() / "families.toml"
    tables = read_toml(file) if file.is_file() else {}
    return {folder: to_record(Family, table, f"{file}: {folder}") for folder, table in tables.items()}


def _long_name(path: Path) -> str:
    if path.parent.parent != zoo_folder():
        return path.stem
    return families().get(path.parent.name, Family()).long_name(path)


def _short_names(models: Mapping[str, Path]) -> dict[str, list[str]]:
    """Long names by short name; one that several share is ambiguous."""
    known = families()
    short: dict[str, list[str]] = {}
    for long, path in models.items():
        pattern = known.get(path.parent.name, Family(short="{}")).short
        if pattern:
            short.setdefault(pattern.format(path.stem), []).append(long)
    return short


def _locate(name: str) -> Path:
    if (Path(name) / "model.toml").is_file():
        return Path(name) / "model.toml"  # a run folder
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise EffkerasError(f"there is no definition {name}; give the path of a TOML file")
        return path
    models = _definitions()
    if name in models:
        return models[name]
    short = _short_names(models)
    matches = short.get(name, [])
    if len(matches) > 1:
        raise EffkerasError(f"the name {name!r} is ambiguous; write {' or '.join(matches)}")
    if not matches:
        hint = did_you_mean(name, [*models, *short])
        raise EffkerasError(f"there is no model {name!r}; {hint} (`effkeras list` shows all)")
    return models[matches[0]]


def _with_bases(path: Path, seen: tuple[Path, ...]) -> Table:
    if path in seen:
        chain = " -> ".join(str(one) for one in (*seen, path))
        raise EffkerasError(f"definitions are each other's base: {chain}")
    table = read_toml(path)
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise EffkerasError(f"{path}: base must be the name of a definition, not {base!r}")
    sibling = path.parent / f"{base}.toml"
    parent = _with_bases(sibling if sibling.is_file() else _locate(base), (*seen, path))
    parent.pop("abstract", None)
    for own in ("published", "weights", "summary"):
        parent.pop(own, None)  # figures and weights belong to one model, not to those made from it
    return merge(parent, table)


def _expand_backbone(table: Table, path: Path) -> Table:
    backbone = table.get("backbone")
    if not backbone:
        return table
    own = table.get("network", {})
    if not isinstance(backbone, str) or not isinstance(own, dict):
        return table  # reading the record says what is wrong
    beside = path.parent / backbone
    source = _with_bases(beside if beside.is_file() else _locate(backbone), (path,)).get("network")
    if source is None:
        raise EffkerasError(f"{path}: the backbone {backbone!r} has no network of its own")
    return {**table, "network": merge(source, own)}
