"""Recipes by name: settings of trainings beside the definitions, `models/FAMILY/NAME.train.toml`.

A recipe may build on that of another family (`base = "nasnet/paper"`), and state in a table of `[only]` what
differs for some models: its key is a pattern of their names, as in `[only."efficientdet-d7*"]`. The later
table counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.zoo import zoo_folder
from effkeras.support.errors import EffkerasError, closest
from effkeras.support.files import below
from effkeras.support.tables import Table, merge, read_toml
from effkeras.training.settings import checked_settings, settings_of

FINETUNE = "finetune"  # what a training starts from where no recipe is chosen
_SUFFIX = ".train.toml"
_BASE, _ONLY = "base", "only"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings that --config names: a file's, on top of those of `finetune` unless it `is_whole`."""

    where: str = "training options"
    table: Table = field(default_factory=dict)
    is_whole: bool = False


def recipe_names(family: str) -> list[str]:
    """The names of a family's recipes."""
    found = (zoo_folder() / family).glob(f"*{_SUFFIX}")
    return sorted(file.name.removesuffix(_SUFFIX) for file in found)


def recipe_of(name_or_path: str | None, spec: ModelSpec | None) -> Recipe:
    """A recipe by its name in the model's family, or a file of settings by its path.

    Without a model (`spec` None) there are no names, and what a file states for some models is left out.

    Raises EffkerasError for an unknown name and a broken file.
    """
    if name_or_path is None or name_or_path == FINETUNE:
        return Recipe()
    names = recipe_names(spec.family) if spec else []
    if spec and name_or_path in names:
        path = zoo_folder() / spec.family / f"{name_or_path}{_SUFFIX}"
        return Recipe(str(path), _table(path, spec.name), is_whole=True)
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        close = closest(name_or_path, [FINETUNE, *names])
        hint = f"did you mean {close!r}? " if close else ""
        raise EffkerasError(
            f"there is no recipe {name_or_path!r} {f'for {spec.family}' if spec else 'without a model'}; "
            f"{hint}--config takes {', '.join([FINETUNE, *names])} or the path of a TOML file"
        )
    return Recipe(str(path), _table(path, spec.name if spec else ""))


def _table(path: Path, model: str, seen: tuple[Path, ...] = ()) -> Table:
    """The settings of a recipe for a model."""
    if path in seen:
        raise EffkerasError(f"recipes name each other as base: {' -> '.join(map(str, (*seen, path)))}")
    table = read_toml(path)
    base, only = table.pop(_BASE, None), table.pop(_ONLY, {})
    if not isinstance(only, dict) or not all(isinstance(one, dict) for one in only.values()):
        raise EffkerasError(f'{path}: [only] takes tables by a pattern of names, as in [only."nasnet-*"]')
    if base is not None:
        if not isinstance(base, str):
            raise EffkerasError(f'{path}: base must be the name of a recipe, such as "nasnet/paper"')
        table = merge(_table(below(zoo_folder(), f"{base}{_SUFFIX}"), model, (*seen, path)), table)
    for pattern, changes in only.items():
        if fnmatchcase(model, pattern):
            table = merge(table, changes)
    return table


def for_batch(recipe: Recipe, overrides: Table) -> tuple[Recipe, str]:
    """The recipe with its learning rate scaled linearly, where options change the images of an update.

    These are `batch` times `accumulate`. Only a recipe that states a batch and a learning rate is scaled, and
    none if the options have a rate of their own.

    Returns:
        The recipe, and a line that says so; empty if nothing was scaled.
    """
    if "learning_rate" in overrides or not {"batch", "learning_rate"} <= recipe.table.keys():
        return recipe, ""
    stated = checked_settings(settings_of(recipe.table, recipe.where), recipe.where)
    images = stated.batch * stated.accumulate
    now = overrides.get("batch", stated.batch) * overrides.get("accumulate", stated.accumulate)
    if now == images:
        return recipe, ""
    rate = stated.learning_rate * now / images
    said = (
        f"learning rate {rate:.4g}: that of the recipe, {stated.learning_rate:g} for {images:,} images an "
        f"update, scaled to {now:,} (--learning-rate: another)"
    )
    return Recipe(recipe.where, {**recipe.table, "learning_rate": rate}, recipe.is_whole), said
