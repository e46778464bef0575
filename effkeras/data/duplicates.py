"""Finds images that look alike by a perceptual hash: copies, resized and re-saved ones, video frames.

The hash is dHash: whether each pixel of a small grey copy is brighter than its left neighbour. Two images
look alike if at most 6 of 64 bits (8 x 8) and at most 40 of 256 bits (16 x 16) differ. Among 500 unrelated
photographs of ImageNet, the closest pair differs in 9 and 54 bits or more.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

COARSE_BITS, FINE_BITS = 6, 40
_BANDS = COARSE_BITS + 1  # with at most 6 different bits, at least one of 7 bands is equal
_WIDTH = -(-64 // _BANDS)  # bits of a band
_BLOCK = 256  # rows that are compared with all others of their bucket at once


class Look(NamedTuple):
    """The hashes of an image: 64 and 256 bits."""

    coarse: int
    fine: int


NO_LOOK = Look(0, 0)  # of an image without contrast, or one that cannot be decoded


def look_of(pixels: np.ndarray) -> Look:
    """The hashes of an RGB image, uint8 (h, w, 3)."""
    grey = Image.fromarray(pixels).convert("L")
    return Look(_difference_hash(grey, 8), _difference_hash(grey, 16))


def _difference_hash(grey: Image.Image, side: int) -> int:
    small = np.asarray(grey.resize((side + 1, side), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def alike(looks: Sequence[Look]) -> list[list[int]]:
    """The groups of images that look alike, as positions in ascending order; images alone are left out.

    Images are in one group if a chain of pairs that look alike connects them.
    """
    if len(looks) < 2:
        return []
    table = np.array([_words(look) for look in looks], np.uint64)
    unique, inverse = np.unique(table, axis=0, return_inverse=True)
    root = _joined(len(unique), _near_pairs(unique))
    return grouped(root[place] for place in inverse.ravel())


def grouped(keys: Iterable[Hashable]) -> list[list[int]]:
    """The positions of equal keys, where a key occurs more than once."""
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def _words(look: Look) -> list[int]:
    """The coarse hash, and the fine one in four parts of 64 bits."""
    return [look.coarse, *(look.fine >> shift & (1 << 64) - 1 for shift in (192, 128, 64, 0))]


def _near_pairs(table: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of rows, uint64 (n, 5), that look alike; only rows that share a band are compared."""
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        keys = (table[:, 0] >> np.uint64(band * _WIDTH)) & np.uint64((1 << _WIDTH) - 1)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=np.uint64(1 << _WIDTH)))
        for bucket in np.split(order, starts[1:]):
            pairs.update(_pairs_among(bucket, table))
    return sorted(pairs)


def _pairs_among(bucket: np.ndarray, table: np.ndarray) -> Iterator[tuple[int, int]]:
    """The pairs of these rows that look alike, found in blocks that bound the memory."""
    coarse = table[bucket, 0]
    for start in range(0, len(bucket), _BLOCK):
        block = coarse[start : start + _BLOCK, None]
        differ = np.bitwise_count(block ^ coarse[None, start:])
        first, second = (place + start for place in np.nonzero(differ <= COARSE_BITS))
        first, second = bucket[first[first < second]], bucket[second[first < second]]
        fine = np.bitwise_count(table[first, 1:] ^ table[second, 1:]).sum(axis=1, dtype=np.int64)
        near = fine <= FINE_BITS
        yield from zip(first[near].tolist(), second[near].tolist(), strict=True)


def _joined(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The smallest member of each item's group, after joining the pairs."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(item) for item in range(count)]
