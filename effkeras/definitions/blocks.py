"""The block-string grammar of MBConv networks.

`r2_k3_s2_e6_i16_o24_se0.25` is two repeats of a 3x3 block with stride 2, 16 input channels, expansion by
6, squeeze-and-excitation with ratio 0.25, and 24 output channels (EfficientNet reference code, BlockDecoder).
Further tokens: `c1` is a fused block, in which one dense convolution replaces expansion and depthwise
convolution (EfficientNetV2); `k3.5.7` splits the channels into thirds with kernels 3, 5 and 7; `a1.1` and
`p1.1` expand and project in two groups (MixNet); `sw`, `hs`, `re` and `re6` set the block's activation to
swish, hard swish, ReLU or ReLU6; `noskip` omits the shortcut.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from effkeras.support.errors import EffkerasError

_TOKEN = re.compile(r"(se|[rkseioapc])(\d+(?:\.\d+)*)")
_INTEGERS = {"r": "repeats", "s": "stride", "i": "inputs", "o": "outputs"}
_NUMBERS = {"e": "expand", "se": "squeeze"}
_GROUPS = {"a": "expand_groups", "p": "project_groups"}
_FLAGS: dict[str, tuple[str, bool | str]] = {
    "noskip": ("skip", False),
    "c1": ("fused", True),
    "sw": ("activation", "swish"),
    "hs": ("activation", "hard_swish"),
    "re": ("activation", "relu"),
    "re6": ("activation", "relu6"),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One decoded block string: a stage of equal blocks, before any scaling."""

    kernels: tuple[int, ...]
    outputs: int
    inputs: int
    repeats: int = 1
    stride: int = 1
    expand: float = 1.0
    squeeze: float = 0.0
    skip: bool = True
    fused: bool = False
    expand_groups: int = 1
    project_groups: int = 1
    activation: str = ""


def decode(text: str) -> Stage:
    """Reads one block string. Raises EffkerasError, naming the invalid token."""
    values: dict[str, Any] = {}
    for token in text.split("_"):
        name, value = _decode_token(token, text)
        if name in values:
            raise EffkerasError(f"block string {text!r}: {token!r} sets {name} a second time")
        values[name] = value
    missing = {"kernels", "inputs", "outputs"} - values.keys()
    if missing:
        raise EffkerasError(f"block string {text!r}: {', '.join(sorted(missing))} missing")
    return _checked(Stage(**values), text)


def encode(stage: Stage) -> str:
    """Writes a stage as the block string that `decode` reads."""
    tokens = [
        f"r{stage.repeats}",
        f"k{'.'.join(map(str, stage.kernels))}",
        f"s{stage.stride}",
        f"e{_plain(stage.expand)}",
        f"i{stage.inputs}",
        f"o{stage.outputs}",
    ]
    if stage.squeeze:
        tokens.append(f"se{_plain(stage.squeeze)}")
    for letter, field in _GROUPS.items():
        groups = getattr(stage, field)
        if groups > 1:
            tokens.append(letter + ".".join("1" * groups))
    tokens += [flag for flag, (field, value) in _FLAGS.items() if getattr(stage, field) == value]
    return "_".join(tokens)


def with_width(stage: Stage, inputs: int, outputs: int, repeats: int) -> Stage:
    """The same blocks with other channels and repeats."""
    return dataclasses.replace(stage, inputs=inputs, outputs=outputs, repeats=repeats)


def _plain(number: float) -> str:
    """The shortest decimal that reads back as the same number, never with an exponent."""
    return format(Decimal(repr(float(number))).normalize(), "f")


def _decode_token(token: str, text: str) -> tuple[str, Any]:
    if token in _FLAGS:
        return _FLAGS[token]
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise EffkerasError(
            f"block string {text!r}: {token!r} is not understood; write it like r2_k3_s2_e6_i16_o24_se0.25"
        )
    key, number = match.groups()
    if key == "k":
        return "kernels", tuple(map(int, number.split(".")))
    if key in _GROUPS:
        return _GROUPS[key], len(number.split("."))
    if key in _NUMBERS and number.count(".") < 2:
        return _NUMBERS[key], float(number)
    if key not in _INTEGERS:
        raise EffkerasError(f"block string {text!r}: {token!r} is not understood")
    if key == "s" and len(number) == 2 and number[0] == number[1]:
        number = number[0]  # the reference code repeats the stride for each axis: s22
    if "." in number:
        raise EffkerasError(f"block string {text!r}: {token!r} must be a whole number")
    return _INTEGERS[key], int(number)


def _checked(stage: Stage, text: str) -> Stage:
    if stage.stride not in (1, 2):
        raise EffkerasError(f"block string {text!r}: the stride must be 1 or 2")
    for name in ("inputs", "outputs", "repeats", "expand"):
        if getattr(stage, name) <= 0:
            raise EffkerasError(f"block string {text!r}: {name} must be above 0")
    if stage.repeats > 1000:
        raise EffkerasError(f"block string {text!r}: {stage.repeats} repeats are more than 1000")
    if any(kernel % 2 == 0 for kernel in stage.kernels):
        raise EffkerasError(f"block string {text!r}: every kernel must be odd")
    if stage.fused and len(stage.kernels) > 1:
        raise EffkerasError(f"block string {text!r}: a fused block has one kernel")
    if not 0 <= stage.squeeze <= 1:
        raise EffkerasError(f"block string {text!r}: se must lie between 0 and 1")
    return stage
