"""From a recipe's name, or a TOML file, to everything that it does.

A name is words joined by "-": steps, then the format: `int8`, `prune50-int8`, `channels30-qat-int8`.
A file says the same with every option open: `base` names a recipe, tables override it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effkeras.errors import EffkerasError, did_you_mean
from effkeras.files import safe_name
from effkeras.tables import Table, merge, read_toml, to_record, to_table
from quantize import recipes
from quantize.recipes import Recipe
from quantize.specs import PtqSpec, Steps

FORMAT = "float32"

RANGE_WORDS = "equalize, unbias, minmax, percentile and mse"

WORDS = {
    "friendly": "swish becomes relu6",
    "hardswish": "swish becomes hard-swish",
    "unsqueeze": "squeeze-and-excitation is removed",
    "channelsN": "N % of the multiply-adds go with whole channels",
    "pruneN": "N % of the weights become zero",
    "pruneNofM": "N of every M weights stay, such as prune2of4",
    "pruneRxC": "half of the weights become zero, in blocks of R x C, such as prune1x4",
    "clusterN": "N different values a layer",
    "distill": "every training also follows the original model's outputs",
    "qat": "trained with quantization",
    "equalize": "the ranges of neighbouring layers are evened out",
    "unbias": "the mean error of each channel is corrected",
    "minmax": "ranges hold all values",
    "percentile": "ranges leave out the outermost values: what int8 does",
    "mse": "ranges of least squared error",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a recipe does: steps that change the model, and the artifact made of it."""

    name: str
    format: Recipe
    steps: Steps = field(default_factory=Steps)
    ptq: PtqSpec = field(default_factory=PtqSpec)
    summary: str = ""

    @property
    def changes_layers(self) -> bool:
        """Whether there are steps that change layers or weights before the training."""
        steps = self.steps
        parts = (steps.friendly, steps.channels, steps.prune, steps.cluster, steps.qat)
        return any(part is not None for part in parts)

    @property
    def trains(self) -> bool:
        """Whether there are steps before the artifact, which take training data and time."""
        return self.changes_layers or self.steps.distill is not None

    def to_table(self) -> Table:
        """The plan with every option, as `find` reads it from a file."""
        about = {"name": self.name, "format": self.format.name, "summary": self.summary}
        found = {name: getattr(self.steps, name) for name in _names(Steps)}
        steps = {name: to_table(spec) for name, spec in found.items() if spec is not None}
        return {**about, **steps, "ptq": to_table(self.ptq)}


@dataclass(frozen=True, slots=True)
class _About:
    """What a recipe's table says beside its steps."""

    name: str
    format: str = FORMAT
    summary: str = ""
    ptq: PtqSpec = field(default_factory=PtqSpec)


def find(recipe: str | Path | Plan | Recipe) -> Plan:
    """The plan of a recipe: its name, or a `.toml` file.

    Raises EffkerasError for an unknown word, a word twice, steps that exclude each other, or a broken file.
    """
    if isinstance(recipe, Plan):
        return recipe
    if isinstance(recipe, Recipe):
        return Plan(recipe.name, recipe)
    if str(recipe).endswith(".toml"):
        return _from_file(Path(recipe))
    return _checked(_from_table(str(recipe), _table_of(str(recipe)), str(recipe)))


def _from_file(file: Path) -> Plan:
    own = read_toml(file)
    base = own.pop("base", FORMAT)
    if not isinstance(base, str):
        raise EffkerasError(f"{file}: base must be a recipe's name, not {base!r}")
    return _checked(_from_table(file.stem, merge(_table_of(base), own), str(file)))


def _from_table(name: str, table: Mapping[str, Any], where: str) -> Plan:
    rest = _joined(dict(table))
    own = {key: rest.pop(key) for key in _names(_About) if key in rest}
    about = to_record(_About, {"name": name, **own}, where)
    safe_name(about.name, f"{where}: the name")
    steps = to_record(Steps, rest, where)
    return Plan(about.name, recipes.find(about.format), steps, about.ptq, about.summary)


def _names(kind: type[_About] | type[Steps]) -> tuple[str, ...]:
    return tuple(item.name for item in dataclasses.fields(kind))


def _table_of(name: str) -> Table:
    """What a name's words say, as a table."""
    format_ = _format_of(name)
    words = name.removesuffix(format_).rstrip("-") if format_ else name
    table: Table = {"format": format_ or FORMAT}
    said: dict[str, str] = {}
    for word in words.split("-") if words or not format_ else ():
        change = _meaning(word, name)
        _check_new(word, change, said, name)
        table = merge(table, change)
    return table


def _check_new(word: str, change: Table, said: dict[str, str], name: str) -> None:
    """Notes what a word is about; EffkerasError when a word before it was about the same."""
    kind = re.sub(r"\d.*", "", word)
    if kind in said:
        raise EffkerasError(f"the recipe {name!r} says {kind!r} twice")
    options = [f"{step}.{option}" for step, chosen in change.items() for option in chosen]
    other = next((said[option] for option in options if option in said), "")
    if other:
        raise EffkerasError(f"the recipe {name!r}: {other} and {word} exclude each other")
    said |= dict.fromkeys([kind, *options], word)


def _joined(table: Table) -> Table:
    """What steps mean beside each other, where nothing is said of it."""
    friendly = table.get("friendly")
    if isinstance(friendly, Mapping) and "squeeze" in friendly:  # alone, it keeps activations
        table = merge({"friendly": {"activation": "keep"}}, table)
    if "qat" in table and "cluster" in table:  # what was clustered stays so
        table = merge({"qat": {"keep_clusters": True}}, table)
    return table


def _format_of(name: str) -> str:
    """The longest format's name that a recipe ends with."""
    fits = [one for one in recipes.names() if name == one or name.endswith(f"-{one}")]
    return max(fits, key=len, default="")


def _meaning(word: str, name: str) -> Table:
    for pattern, change in _patterns().items():
        match = re.fullmatch(pattern, word)
        if match:
            return change(*match.groups())
    if word in recipes.names():
        raise EffkerasError(f"the recipe {name!r}: the format, {word}, comes last, and there is only one")
    known = [*WORDS, *recipes.names()]
    raise EffkerasError(f"the recipe {name!r}: there is no word {word!r}; {did_you_mean(word, known)}")


def _patterns() -> dict[str, Callable[..., Table]]:
    return {
        "friendly": lambda: {"friendly": {"activation": "relu6"}},
        "hardswish": lambda: {"friendly": {"activation": "hard_swish"}},
        "unsqueeze": lambda: {"friendly": {"squeeze": "remove"}},
        r"channels(\d+)": lambda percent: {"channels": {"keep": 1 - int(percent) / 100}},
        r"prune(\d+)": lambda percent: {"prune": {"sparsity": int(percent) / 100}},
        r"prune(\d+)of(\d+)": lambda n, m: {"prune": {"pattern": f"{n}:{m}"}},
        r"prune(\d+)x(\d+)": lambda rows, columns: {"prune": {"pattern": f"{rows}x{columns}"}},
        r"cluster(\d+)": lambda count: {"cluster": {"clusters": int(count)}},
        "distill": lambda: {"distill": {"weight": 0.5}},
        "qat": lambda: {"qat": {"ranges": "ema"}},
        "equalize": lambda: {"ptq": {"equalize": True}},
        "unbias": lambda: {"ptq": {"correct_bias": True}},
        "minmax": lambda: {"ptq": {"ranges": "minmax"}},
        "percentile": lambda: {"ptq": {"ranges": "percentile"}},
        "mse": lambda: {"ptq": {"ranges": "mse"}},
    }


def _checked(plan: Plan) -> Plan:
    problem = next((text for text, holds in _checks(plan).items() if not holds), "")
    if problem:
        raise EffkerasError(f"the recipe {plan.name!r}: {problem}")
    return plan


def _checks(plan: Plan) -> dict[str, bool]:
    steps, ptq = plan.steps, plan.ptq
    channels, prune, cluster, tune = steps.channels, steps.prune, steps.cluster, steps.tune
    if prune is not None:
        from quantize.magnitude.patterns import parse_pattern

        parse_pattern(prune.pattern, prune.pooling)
    is_int8 = plan.format.activations == "int8" and plan.format.weights == "int8"
    corrected = ptq.equalize or ptq.correct_bias or ptq.ranges != "auto"
    return {
        "channels must remove more than 0 and less than 100 %": channels is None or 0 < channels.keep < 1,
        "prune must make more than 0 and less than 100 % zeros": prune is None or 0 < prune.sparsity < 1,
        "cluster needs at least 2 values": cluster is None or cluster.clusters >= 2,
        "qat trains for int8: end it with -int8": steps.qat is None or is_int8,
        "tune needs at least one epoch and a batch of one": tune.epochs >= 1 and tune.batch >= 1,
        "tune needs a learning_rate above 0": tune.learning_rate > 0,
        "distill weight must lie above 0 and up to 1": steps.distill is None or 0 < steps.distill.weight <= 1,
        "distill temperature must be above 0": steps.distill is None or steps.distill.temperature > 0,
        "percentile must lie above 0.5 and up to 1": 0.5 < ptq.percentile <= 1,
        f"{plan.format.name} measures no ranges: {RANGE_WORDS} have no effect": (
            plan.format.needs_data or not corrected
        ),
        f"after qat ranges are trained: {RANGE_WORDS} have no place": (steps.qat is None or not corrected),
    }
