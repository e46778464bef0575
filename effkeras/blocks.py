"""The block-string grammar that MBConv networks are written in.

`r2_k3_s2_e6_i16_o24_se0.25` is two repeats of a 3x3 block of stride 2 that expands 16 channels
sixfold, squeezes to a quarter of them and ends with 24 (EfficientNet reference code, BlockDecoder).
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from decimal import Decimal

from effkeras.errors import EffkerasError

_TOKEN = re.compile(r"(se|[rkseio])(\d+(?:\.\d+)?)")
_INTEGERS = {"r": "repeats", "k": "kernel", "s": "stride", "i": "inputs", "o": "outputs"}
_NUMBERS = {"e": "expand", "se": "squeeze"}
_FLAGS = {"noskip": "skip"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One decoded block string: blocks of one shape, before any scaling."""

    kernel: int
    outputs: int
    inputs: int
    repeats: int = 1
    stride: int = 1
    expand: float = 1.0
    squeeze: float = 0.0
    skip: bool = True


def decode(text: str) -> Stage:
    """Reads one block string; EffkerasError names the token that is not understood."""
    values: dict[str, float | int | bool] = {}
    for token in text.split("_"):
        name, value = _decode_token(token, text)
        if name in values:
            raise EffkerasError(f"block string {text!r}: {token!r} sets {name} a second time")
        values[name] = value
    missing = {"kernel", "inputs", "outputs"} - values.keys()
    if missing:
        raise EffkerasError(f"block string {text!r}: {', '.join(sorted(missing))} missing")
    return _checked(Stage(**values), text)  # type: ignore[arg-type]


def encode(stage: Stage) -> str:
    """Writes a stage as the block string that `decode` reads."""
    tokens = [
        f"r{stage.repeats}",
        f"k{stage.kernel}",
        f"s{stage.stride}",
        f"e{_plain(stage.expand)}",
        f"i{stage.inputs}",
        f"o{stage.outputs}",
    ]
    if stage.squeeze:
        tokens.append(f"se{_plain(stage.squeeze)}")
    if not stage.skip:
        tokens.append("noskip")
    return "_".join(tokens)


def with_width(stage: Stage, inputs: int, outputs: int, repeats: int) -> Stage:
    """The same blocks with other channels and repeats."""
    return dataclasses.replace(stage, inputs=inputs, outputs=outputs, repeats=repeats)


def _plain(number: float) -> str:
    """The shortest decimal that reads back as the same number, never with an exponent."""
    return format(Decimal(repr(float(number))).normalize(), "f")


def _decode_token(token: str, text: str) -> tuple[str, float | int | bool]:
    if token in _FLAGS:
        return _FLAGS[token], False
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise EffkerasError(
            f"block string {text!r}: {token!r} is not understood; write it like r2_k3_s2_e6_i16_o24_se0.25"
        )
    key, number = match.groups()
    if key in _NUMBERS:
        return _NUMBERS[key], float(number)
    if key == "s" and len(number) == 2 and number[0] == number[1]:
        number = number[0]  # the reference code writes the stride of each axis: s22
    if "." in number:
        raise EffkerasError(f"block string {text!r}: {token!r} must be a whole number")
    return _INTEGERS[key], int(number)


def _checked(stage: Stage, text: str) -> Stage:
    if stage.stride not in (1, 2):
        raise EffkerasError(f"block string {text!r}: the stride must be 1 or 2")
    for name in ("kernel", "inputs", "outputs", "repeats", "expand"):
        if getattr(stage, name) <= 0:
            raise EffkerasError(f"block string {text!r}: {name} must be above 0")
    if stage.kernel % 2 == 0:
        raise EffkerasError(f"block string {text!r}: the kernel must be odd")
    if not 0 <= stage.squeeze <= 1:
        raise EffkerasError(f"block string {text!r}: se must lie between 0 and 1")
    return stage
