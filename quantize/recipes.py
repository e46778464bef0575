"""Recipes: parses a recipe's name, or reads its TOML file.

A name is words joined by "-", first steps, then the format: `int8`, `prune50-int8`, `channels30-qat-int8`.
A file can set every option: `base` names a recipe, and tables override its options.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effkeras.support.errors import EffkerasError, did_you_mean
from effkeras.support.files import safe_name
from effkeras.support.tables import Table, merge, read_toml, to_record, to_table
from quantize import formats
from quantize.formats import Format
from quantize.specs import RANGE_WORDS, PtqSpec, TuneSpec
from quantize.steps.step import RecipeStep, Word, steps_in_order

FORMAT = "float32"

_RANGE_WORDS = (
    Word("equalize", "the ranges of neighbouring layers are equalized", lambda: {"equalize": True}),
    Word("unbias", "the mean error of each channel is corrected", lambda: {"correct_bias": True}),
    Word("minmax", "ranges hold all values", lambda: {"ranges": "minmax"}),
    Word(
        "percentile",
        "ranges clip the outermost values, the default of int8",
        lambda: {"ranges": "percentile"},
    ),
    Word("mse", "ranges of least squared error", lambda: {"ranges": "mse"}),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: steps that change the model, each followed by training, and the format of the artifact.

    `steps` maps the name of each step to its spec; `tune` is the training after each step.
    """

    name: str
    format: Format
    steps: Mapping[str, Any] = field(default_factory=dict)
    tune: TuneSpec = field(default_factory=TuneSpec)
    ptq: PtqSpec = field(default_factory=PtqSpec)
    summary: str = ""

    @property
    def trains(self) -> bool:
        """Whether there are steps before quantization, which need training data and time."""
        return bool(self.steps)

    @property
    def trains_ranges(self) -> bool:
        """Whether a step trains the activation ranges of the artifact."""
        return any(step.trains_ranges for step in self.in_order())

    def in_order(self) -> list[RecipeStep[Any]]:
        """The steps in the order in which they run."""
        known = steps_in_order()
        return [known[name](name, self.steps[name]) for name in known if name in self.steps]

    def to_table(self) -> Table:
        """The recipe with every option, as `find` reads it from a file."""
        about = {"name": self.name, "format": self.format.name, "summary": self.summary}
        steps = {step.name: to_table(step.spec) for step in self.in_order()}
        return {**about, **steps, "tune": to_table(self.tune), "ptq": to_table(self.ptq)}


@dataclass(frozen=True, slots=True)
class _About:
    """The entries of a recipe's table other than its steps."""

    name: str
    format: str = FORMAT
    summary: str = ""
    tune: TuneSpec = field(default_factory=TuneSpec)
    ptq: PtqSpec = field(default_factory=PtqSpec)


def find(recipe: str | Path | Recipe | Format) -> Recipe:
    """Finds a recipe by its name, or reads it from a `.toml` file.

    Raises EffkerasError for unknown, repeated or conflicting words, an invalid option, or an invalid file.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Format):
        return Recipe(recipe.name, recipe)
    if str(recipe).endswith(".toml"):
        return _from_file(Path(recipe))
    return _checked(_from_table(str(recipe), _table_of(str(recipe)), str(recipe)))


def _from_file(file: Path) -> Recipe:
    own = read_toml(file)
    base = own.pop("base", FORMAT)
    if not isinstance(base, str):
        raise EffkerasError(f"{file}: base must be a recipe's name, not {base!r}")
    return _checked(_from_table(file.stem, merge(_table_of(base), own), str(file)))


def _from_table(name: str, table: Mapping[str, Any], where: str) -> Recipe:
    rest = _with_defaults(dict(table))
    names = [item.name for item in dataclasses.fields(_About)]
    about = to_record(_About, {"name": name, **{key: rest.pop(key) for key in names if key in rest}}, where)
    safe_name(about.name, f"{where}: the name")
    format_ = formats.find(about.format)
    return Recipe(about.name, format_, _specs(rest, where), about.tune, about.ptq, about.summary)


def _specs(tables: Table, where: str) -> dict[str, Any]:
    """The specs of a recipe's steps, by the step's name, read from the recipe's tables."""
    known = steps_in_order()
    for name, table in tables.items():
        if name not in known:
            hint = did_you_mean(name, [*known, *(item.name for item in dataclasses.fields(_About))])
            raise EffkerasError(f"{where}: unknown key {name!r}; {hint}")
        if not isinstance(table, Mapping):
            raise EffkerasError(f"{where}: {name} must be a table, not {table!r}")
    return {
        name: to_record(step.spec_class, tables[name], f"{where}: {name}")
        for name, step in known.items()
        if name in tables
    }


def _table_of(name: str) -> Table:
    """The table that a recipe's name stands for."""
    format_ = _format_of(name)
    words = name.removesuffix(format_).rstrip("-") if format_ else name
    table: Table = {"format": format_ or FORMAT}
    set_by: dict[str, str] = {}
    for word in words.split("-") if words or not format_ else ():
        change = _meaning(word, name)
        _check_new(word, change, set_by, name)
        table = merge(table, change)
    return table


def _check_new(word: str, change: Table, set_by: dict[str, str], name: str) -> None:
    """Records the options that a word sets; EffkerasError if an earlier word set one of them."""
    kind = re.sub(r"\d.*", "", word)
    if kind in set_by:
        raise EffkerasError(f"the recipe {name!r} says {kind!r} twice")
    options = [f"{step}.{option}" for step, chosen in change.items() for option in chosen]
    other = next((set_by[option] for option in options if option in set_by), "")
    if other:
        raise EffkerasError(f"the recipe {name!r}: {other} and {word} exclude each other")
    set_by |= dict.fromkeys([kind, *options], word)


def _with_defaults(table: Table) -> Table:
    """The tables of a recipe, with the defaults of steps that depend on other steps."""
    known = steps_in_order()
    own = {name: known[name].defaults(table) for name in table if name in known}
    return merge({name: options for name, options in own.items() if options}, table)


def _format_of(name: str) -> str:
    """The longest format name that a recipe's name ends with; else ""."""
    fits = [one for one in formats.names() if name == one or name.endswith(f"-{one}")]
    return max(fits, key=len, default="")


def words() -> dict[str, str]:
    """All words that may precede the format in a recipe's name, with their meanings."""
    return {word.name: word.meaning for _, word in _words()}


def _words() -> list[tuple[str, Word]]:
    """All words, each with the name of the table whose options it sets."""
    of_steps = [(name, word) for name, step in steps_in_order().items() for word in step.words]
    return [*of_steps, *(("ptq", word) for word in _RANGE_WORDS)]


def _meaning(word: str, name: str) -> Table:
    for table, known in _words():
        match = re.fullmatch(known.pattern, word)
        if match:
            return {table: known.options(*match.groups())}
    if word in formats.names():
        raise EffkerasError(f"the recipe {name!r}: the format, {word}, comes last, and there is only one")
    hint = did_you_mean(word, [*words(), *formats.names()])
    raise EffkerasError(f"the recipe {name!r}: there is no word {word!r}; {hint}")


def _checked(recipe: Recipe) -> Recipe:
    of_steps = (problem for step in recipe.in_order() for problem in step.problems(recipe.format, recipe.ptq))
    problem = next(itertools.chain(of_steps, _problems(recipe)), "")
    if problem:
        raise EffkerasError(f"the recipe {recipe.name!r}: {problem}")
    return recipe


def _problems(recipe: Recipe) -> Iterator[str]:
    """The problems of a recipe that do not concern its steps."""
    tune, ptq = recipe.tune, recipe.ptq
    if (tune.epochs is not None and tune.epochs < 1) or tune.batch < 1:
        yield "tune needs at least one epoch and a batch of one"
    if not tune.learning_rate > 0:
        yield "tune needs a learning_rate above 0"
    if not 0.5 < ptq.percentile <= 1:
        yield "percentile must lie above 0.5 and up to 1"
    if ptq.sets_ranges and not recipe.format.needs_data:
        yield f"{recipe.format.name} measures no ranges: {RANGE_WORDS} have no effect"
