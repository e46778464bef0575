"""Reads the golden files and regenerates the weights that they were computed with."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Golden:
    arrays: dict[str, np.ndarray]
    meta: dict

    @property
    def name(self) -> str:
        return self.meta["model"]

    @property
    def size(self) -> int:
        return self.meta["size"]

    def weights(self) -> dict[str, np.ndarray]:
        return {
            name: official_weight(name, tuple(shape), self.meta["sum_fusion"])
            for name, shape in self.meta["variables"]
        }


def read_golden(file: str) -> Golden:
    with np.load(FOLDER / file) as stored:
        arrays = {key: stored[key] for key in stored.files if key != "meta"}
        return Golden(arrays, json.loads(bytes(stored["meta"])))


def official_weight(name: str, shape: tuple[int, ...], sum_fusion: bool) -> np.ndarray:
    draw = np.random.default_rng([0, zlib.crc32(name.encode())])
    return np.asarray(_draw(draw, name, shape, sum_fusion)).astype(np.float32)


def _draw(draw: np.random.Generator, name: str, shape: tuple[int, ...], sum_fusion: bool) -> np.ndarray:
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "gamma":
        return draw.uniform(0.7, 1.3, shape)
    if leaf in ("beta", "moving_mean"):
        return draw.normal(0, 0.2, shape)
    if leaf == "moving_variance":
        return draw.uniform(0.6, 1.6, shape)
    if leaf.startswith("WSM"):
        return draw.uniform(-0.2 if leaf == "WSM_1" else 0.1, 1.5, shape)
    if leaf == "bias":
        return draw.normal(0, 0.1, shape) - (np.log(99) if "class-predict" in name else 0)
    if leaf == "depthwise_kernel":
        return draw.normal(0, np.sqrt(1.5 / (shape[0] * shape[1])), shape)
    is_summed = sum_fusion and name.startswith(("fpn_cells", "class_net", "box_net"))
    return draw.normal(0, np.sqrt((0.25 if is_summed else 1.5) / np.prod(shape[:-1])), shape)
