"""Weights, images and outputs of the PyTorch goldens: timm's and effdet's models, seeded by name.

`tests/golden/torch/*.npz` hold the names and shapes of a model's state dict and, for some models, what
it computes from `torch_weight` of each name and `image`. They were written with timm 1.0.31 and effdet
0.4.1; neither is needed here.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden" / "torch"


@dataclass(frozen=True)
class TorchGolden:
    name: str
    shapes: dict[str, tuple[int, ...]]
    size: int
    gain: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: dict[str, np.ndarray]

    def weights(self) -> dict[str, np.ndarray]:
        return {name: torch_weight(name, shape, self.gain) for name, shape in self.shapes.items()}


def read_torch_golden(name: str) -> TorchGolden:
    with np.load(FOLDER / f"{name}.npz") as stored:
        outputs = {key: stored[key] for key in stored.files if key != "meta"}
        meta = json.loads(zlib.decompress(bytes(stored["meta"])))
    shapes = {key: tuple(shape) for key, shape in meta["shapes"]}
    mean, std = tuple(meta["mean"]), tuple(meta["std"])
    return TorchGolden(name, shapes, meta["size"], meta["gain"], mean, std, outputs)


def image(size: int) -> np.ndarray:
    """Patches of one colour each, (1, size, size, 3): noise alone would be averaged away."""
    colours = np.random.default_rng(size).integers(0, 256, (1, 8, 8, 3))
    return colours.repeat(size // 8, axis=1).repeat(size // 8, axis=2).astype(np.float32)


def torch_weight(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """`gain` keeps the signal alive from block to block, so that outputs depend on the image."""
    if name.endswith("num_batches_tracked"):
        return np.array(5, np.int64)
    draw = np.random.default_rng([1, zlib.crc32(name.encode())])
    return np.asarray(_draw(draw, name.rsplit(".", 1)[-1], shape, gain)).astype(np.float32)


def _draw(draw: np.random.Generator, leaf: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    if leaf == "running_var":
        return draw.uniform(0.6, 1.6, shape)
    if leaf in ("running_mean", "bias"):
        return draw.normal(0, 0.2, shape)
    if leaf == "edge_weights":
        return draw.uniform(-0.2, 1.5, shape)
    if len(shape) == 1:
        return draw.uniform(0.7, 1.3, shape)
    return draw.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape)
