"""What to make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SavedModelOptions:
    """What to make and how to check it.

    `data` is a folder of labelled images; the first ones of `split` (default: "test", else "val") are what
    the result is checked with, instead of made-up ones. `min_score` leaves out detections that are less sure.
    """

    data: Path | None = None
    split: str | None = None
    skip_bad: bool = False
    min_score: float = 0.0
    weights: str | None = None
    out: Path | None = None
