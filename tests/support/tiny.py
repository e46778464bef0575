"""Small models and data sets that several tests share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from effkeras.data.digits import DigitsOptions, write_digits
from effkeras.definitions import zoo
from effkeras.definitions.definition import HeadSpec, ModelSpec
from effkeras.definitions.networks import BatchNormSpec, DropBlockSpec

QUICK_NORM = BatchNormSpec(momentum=0.9)


def tiny_detector(base: str = "efficientdet-digits", size: int = 64) -> ModelSpec:
    """A detector that trains a step in milliseconds."""
    spec = zoo.spec(base)
    network = dataclasses.replace(
        spec.network, width=0.25, blocks=spec.network.blocks[:6], batch_norm=QUICK_NORM, stem=8
    )
    fpn = dataclasses.replace(spec.fpn, levels=(3, 5), channels=16, cells=1, batch_norm=QUICK_NORM)
    size_spec = dataclasses.replace(spec.input, size=(size, size))
    return spec.replace(
        name="tiny", input=size_spec, network=network, fpn=fpn, head=HeadSpec(repeats=1), weights={}
    )


def tiny_classifier() -> ModelSpec:
    """A classifier with all regularisers that trains a step in milliseconds."""
    spec = zoo.spec("efficientnet-digits")
    network = dataclasses.replace(
        spec.network, width=0.25, blocks=spec.network.blocks[:2], batch_norm=QUICK_NORM, survival=0.8
    )
    network = dataclasses.replace(network, drop_block=DropBlockSpec(keep=0.9, size=3))
    return spec.replace(name="tiny-classifier", network=network, weights={})


def digits_folder(out: Path, **options: object) -> Path:
    """A few digits images as a COCO folder (or a folder per class)."""
    few = {"train": 24, "val": 8, "test": 8}
    write_digits(out, DigitsOptions(**{**few, **options}))  # type: ignore[arg-type]
    return out


def random_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """float32 (count, size, size, 3), whole numbers in 0..255."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size, 3)).astype(np.float32)


def tiny_cells(base: str = "nasnet-mobile", size: tuple[int, int] = (32, 32), **network: object) -> ModelSpec:
    """A classifier of three classes with one cell a group; `network` changes it further."""
    spec = zoo.spec(base)
    small = {"repeats": 1, "filters": 8, "stem": 8, "batch_norm": QUICK_NORM, **network}
    return spec.replace(
        name="tiny-cells",
        network=dataclasses.replace(spec.network, **small),  # type: ignore[arg-type]
        input=dataclasses.replace(spec.input, size=size),
        classes=3,
        labels=(),
    )
