"""Choices in a space's file: a scalar is fixed, a list has the choices of a gene."""

from __future__ import annotations

import itertools
import math
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from effkeras.definitions.networks import LARGEST, MOST_REPEATS, Activation
from effkeras.search.genomes import Choice, Gene, Genome
from effkeras.support.errors import EffkerasError, did_you_mean

# The most combinations of choices in one table, because all of them are enumerated; MnasNet has 576.
_MOST_WAYS = 10_000
_MIXED = re.compile(r"\d*[13579](\.\d*[13579])*")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for a choice: `wanted` describes it for errors, `holds` tests a value."""

    wanted: str
    holds: Callable[[Any], bool]


def one_of(names: Collection[str]) -> Rule:
    """A rule for a choice among names."""
    return Rule(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_kernel(value: Any) -> bool:
    if isinstance(value, str):
        return _MIXED.fullmatch(value) is not None
    return _is_whole(value) and value > 0 and value % 2 == 1


COUNT = Rule("a whole number above 0", lambda value: _is_whole(value) and value > 0)
REPEATS = Rule(
    f"a whole number from 0 to {MOST_REPEATS}", lambda value: _is_whole(value) and 0 <= value <= MOST_REPEATS
)
COUNT_OR_NONE = Rule("a whole number, 0 or more", lambda value: _is_whole(value) and value >= 0)
WIDTH = Rule(
    f"a number above 0 and at most {LARGEST}", lambda value: _is_number(value) and 0 < value <= LARGEST
)
FACTOR = Rule("a number above 0", lambda value: _is_number(value) and value > 0)
COEFFICIENT = Rule("a number of at least 1", lambda value: _is_number(value) and value >= 1)
SHARE = Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a text", lambda value: isinstance(value, str) and value != "")
STRIDE = Rule("1 or 2", lambda value: _is_whole(value) and value in (1, 2))
KERNEL = Rule('an odd whole number above 0, or several like "3.5"', _is_kernel)
ACTIVATION = one_of(typing.get_args(Activation))

Rules = Mapping[str, Rule]
Values = Mapping[str, Choice]


@dataclass(frozen=True, slots=True)
class Group:
    """The keys of one table with their choices; keys with several choices are genes, prefixed with `name`."""

    name: str
    choices: Mapping[str, tuple[Choice, ...]]

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The keys with several choices, as genes."""
        prefix = f"{self.name}." if self.name else ""
        return tuple(Gene(prefix + key, self.choices[key]) for key in self._free)

    @property
    def _free(self) -> list[str]:
        return [key for key, choices in self.choices.items() if len(choices) > 1]

    def values(self, part: Genome) -> dict[str, Choice]:
        """The values that the group's part of a genome selects, including fixed keys."""
        index = dict(zip(self._free, part, strict=True))
        return {key: choices[index.get(key, 0)] for key, choices in self.choices.items()}

    def part_of(self, values: Values) -> Genome | None:
        """The part of a genome that selects these values; None when one is not a choice."""
        if any(values[key] not in choices for key, choices in self.choices.items()):
            return None
        return tuple(self.choices[key].index(values[key]) for key in self._free)

    def parts(self) -> Iterator[Genome]:
        """All parts of a genome for this group, in ascending order."""
        return itertools.product(*(range(len(self.choices[key])) for key in self._free))


def read_group(name: str, table: Mapping[str, Any], rules: Rules, where: str) -> Group:
    """Reads the choices of a table, in the order of the rules.

    Raises EffkerasError, which names `where` and the key, for unknown keys, empty lists and invalid choices.
    """
    check_keys(table, rules, where)
    known = [key for key in rules if key in table]
    group = Group(name, {key: _choices(table[key], rules[key], f"{where}: {key}") for key in known})
    ways = math.prod(map(len, group.choices.values()))
    if ways > _MOST_WAYS:
        raise EffkerasError(f"{where}: {ways:,} combinations of its choices are more than {_MOST_WAYS:,}")
    return group


def check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises EffkerasError for an unknown key; the error suggests the closest known one."""
    for key in table:
        if key not in known:
            raise EffkerasError(f"{where}: unknown key {key!r}; {did_you_mean(key, known)}")


def _choices(value: Any, rule: Rule, where: str) -> tuple[Choice, ...]:
    choices = tuple(value) if isinstance(value, list) else (value,)
    if not choices:
        raise EffkerasError(f"{where} is an empty list; give at least one choice")
    for index, choice in enumerate(choices):
        if not rule.holds(choice):
            raise EffkerasError(f"{where} must be {rule.wanted}, or a list of such choices, not {choice!r}")
        if choice in choices[:index]:
            raise EffkerasError(f"{where} lists {choice!r} twice; give each choice once")
    return choices
