"""The model zoo: finds definitions by name and resolves them into a ModelSpec.

A definition is a TOML file; `inheritance` says how one builds on others.

A process lists the folder and resolves each definition once. It does so again only after a file's
modification time, size or inode has changed, so an edit or a new file takes effect at the next call.
"""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from effkeras.definitions.definition import ModelSpec, spec_from_table
from effkeras.definitions.inheritance import Resolution, Stamp, stamp_of
from effkeras.support.archives import read_json
from effkeras.support.errors import EffkerasError, did_you_mean, first_line
from effkeras.support.tables import Table, parse_toml, read_toml, to_record

_NOT_MODELS = ("-base", ".train")
_SAVED = "model.keras"
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Family:
    """A folder of the zoo: its title, and patterns for its models' names (`{}` is a file's stem)."""

    title: str = ""
    long: str = ""
    short: str = ""

    def long_name(self, path: Path) -> str:
        """The long name of a definition in this family."""
        return self.long.format(path.stem) if self.long else f"{path.parent.name}-{path.stem}"


def zoo_folder() -> Path:
    """The folder of definitions: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "_zoo"
    return packaged if packaged.is_dir() else package.parent / "models"


def list_models() -> list[str]:
    """Long names of all models of the zoo, sorted."""
    return sorted(_zoo().definitions)


def spec(name_or_path: str | Path) -> ModelSpec:
    """The resolved definition of a zoo model (short or long name), a TOML or .keras file, or a run folder.

    Raises EffkerasError for an unknown or ambiguous name, a broken definition, and a .keras file without a
    definition.
    """
    if is_keras_file(name_or_path):
        return _spec_in(Path(name_or_path))
    zoo = _zoo()
    return zoo.spec(zoo.locate(str(name_or_path)))


def spec_from(table: Table, file: Path) -> ModelSpec:
    """The resolved definition of a table inside another kind of file, such as a search space.

    `base` and `backbone` work as in a definition file. Raises EffkerasError, naming `file`, like `spec`.
    """
    zoo = _zoo()
    return zoo.resolved(Resolution(zoo.locate, {file: table}), file)


def saved_weights(name_or_path: object) -> Path | None:
    """The weights of a run folder or a .keras file; None for definitions.

    Raises EffkerasError for a run folder whose training has not saved a model yet.
    """
    if not isinstance(name_or_path, str | Path):
        return None
    path = Path(name_or_path)
    if is_keras_file(path):
        return path
    if not (path / "model.toml").is_file():
        return None
    if not (path / _SAVED).is_file():
        raise EffkerasError(
            f"{path} has no {_SAVED} yet: its training was interrupted; finish it by the same command"
        )
    return path / _SAVED


def is_keras_file(name_or_path: object) -> bool:
    """Whether the argument names a .keras file."""
    return isinstance(name_or_path, str | Path) and Path(name_or_path).suffix == ".keras"


def _spec_in(file: Path) -> ModelSpec:
    """The definition in a .keras file, read without Keras and without the weights."""
    if not file.is_file():
        raise EffkerasError(f"there is no model {file}; give a .keras file or a run folder")
    try:
        with zipfile.ZipFile(file) as archive:
            content = read_json(archive, _CONFIG, file)
        layers = content["config"]["layers"]
        texts = [layer["config"].get("definition") for layer in layers if layer["class_name"] == "Normalize"]
        table = parse_toml(next(filter(None, texts), ""), str(file))
    except EffkerasError:
        raise
    except Exception as error:  # zlib, zipfile and json have many for a damaged file
        raise EffkerasError(f"{file} is corrupt or not a Keras 3 model: {first_line(error)}") from error
    if not table:
        raise EffkerasError(f"{file} carries no definition; give a model that effkeras built")
    return spec_from_table(table, str(file))


def definition_folder(name_or_path: object) -> Path | None:
    """The folder of a definition given as a file or a run folder; None for zoo names and records."""
    if not isinstance(name_or_path, str | Path):
        return None
    path = Path(name_or_path)
    if (path / "model.toml").is_file():
        return path
    return path.parent if path.suffix == ".toml" and path.is_file() else None


def families() -> dict[str, Family]:
    """The families of the zoo by folder, in display order."""
    return _zoo().families


def specs_by_family() -> Iterator[tuple[Family, list[ModelSpec]]]:
    """All models of the zoo: families in display order, each with its models by name."""
    zoo = _zoo()
    for folder, family in zoo.families.items():
        paths = [path for path in zoo.definitions.values() if path.parent.name == folder]
        yield family, [zoo.spec(path) for path in paths]


def definition_path(name: str) -> Path | None:
    """The file that defines the zoo model with this long name; None for an unknown name."""
    return _zoo().definitions.get(name)


def _is_model(path: Path) -> bool:
    return path.stem != "base" and not path.stem.endswith(_NOT_MODELS)


def _zoo() -> _Zoo:
    """The current zoo, listed again after a folder or families.toml has changed.

    A folder's modification time changes when a definition is added, removed or renamed. The listing does not
    hold the content of definitions; `_Zoo.spec` checks the files that a definition depends on.
    """
    folder = zoo_folder()
    folders = sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir())
    return _listed(folder, tuple((one, stamp_of(one)) for one in (folder / "families.toml", *folders)))


@functools.lru_cache(maxsize=4)
def _listed(folder: Path, stamps: tuple[tuple[Path, Stamp], ...]) -> _Zoo:
    return _Zoo(folder)


class _Zoo:
    """The folder of definitions in one state, with the definitions already resolved."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._specs: dict[tuple[Path, Path], tuple[dict[Path, Stamp], ModelSpec]] = {}

    @cached_property
    def families(self) -> dict[str, Family]:
        file = self._folder / "families.toml"
        tables = read_toml(file) if file.is_file() else {}
        return {name: to_record(Family, table, f"{file}: {name}") for name, table in tables.items()}

    @cached_property
    def definitions(self) -> dict[str, Path]:
        files = sorted(self._folder.glob("*/*.toml"))
        return {self.long_name(path): path for path in files if _is_model(path)}

    def spec(self, path: Path) -> ModelSpec:
        """The resolved definition in a file, resolved again after a file that it depends on has changed."""
        key = (path, path.absolute())  # a relative path gives other names; the working folder may change
        files, spec = self._specs.get(key, ({}, None))
        if spec is None or any(stamp_of(file) != stamp for file, stamp in files.items()):
            resolution = Resolution(self.locate, {})
            spec = self.resolved(resolution, path)
            self._specs[key] = resolution.files, spec
        return spec

    def resolved(self, resolution: Resolution, path: Path) -> ModelSpec:
        table = {"name": self.long_name(path), **resolution.table(path)}
        spec = spec_from_table(table, str(path))
        return spec.replace(network=spec.network.for_pyramid()) if spec.is_detector else spec

    def locate(self, name: str) -> Path:
        if (Path(name) / "model.toml").is_file():
            return Path(name) / "model.toml"  # a run folder
        if name.endswith(".toml") or "/" in name:
            path = Path(name)
            if not path.is_file():
                raise EffkerasError(f"there is no definition {name}; give the path of a TOML file")
            return path
        return self.definitions[name] if name in self.definitions else self._by_short_name(name)

    def long_name(self, path: Path) -> str:
        is_zoo = path.parent.parent == self._folder
        return self._family(path, default=Family()).long_name(path) if is_zoo else path.stem

    def _by_short_name(self, name: str) -> Path:
        matches = self._short_names.get(name, []) or self._as_keras_writes(name)
        if len(matches) > 1:
            raise EffkerasError(f"the name {name!r} is ambiguous; write {' or '.join(matches)}")
        if not matches:
            hint = did_you_mean(name, [*self.definitions, *self._short_names])
            raise EffkerasError(f"there is no model {name!r}; {hint} (`effkeras list` shows all)")
        return self.definitions[matches[0]]

    def _as_keras_writes(self, name: str) -> list[str]:
        """Models whose name without dashes is `name`, as keras.applications writes it: efficientnetb0."""
        return [long for long in self.definitions if long.replace("-", "") == name]

    @cached_property
    def _short_names(self) -> dict[str, list[str]]:
        """Long names by short name; a short name of several models is ambiguous."""
        short: dict[str, list[str]] = {}
        for long, path in self.definitions.items():
            pattern = self._family(path, default=Family(short="{}")).short
            if pattern:
                short.setdefault(pattern.format(path.stem), []).append(long)
        return short

    def _family(self, path: Path, default: Family) -> Family:
        return self.families.get(path.parent.name, default)
