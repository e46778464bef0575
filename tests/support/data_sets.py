"""Small random data sets for the tests of formats, and what must survive a round trip."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from effkeras.data.formats import DataFormat
from effkeras.data.records import Category, DetectionData, DetectionRecord, ReadOptions
from effkeras.support.errors import EffkerasError

LABELS = ("red cell", "Straße 7", "a,b;c", "日本", "10", "2")
REAL = Path(__file__).parents[3] / "shared" / "real"
needs_bccd = pytest.mark.skipif(not (REAL / "bccd").is_dir(), reason="BCCD is not on this machine")


@st.composite
def boxes_in(draw: Callable[..., object], height: int, width: int) -> list[float]:
    """One box of at least 1 pixel a side inside an image: ymin, xmin, ymax, xmax."""
    sides = []
    for length in (height, width):
        low = draw(st.floats(0, length - 1))
        sides.append((low, draw(st.floats(low + 1, length))))
    (top, bottom), (left, right) = sides
    return [top, left, bottom, right]


@st.composite
def contents(draw: Callable[..., object]) -> list[tuple[tuple[int, int], list[tuple[list[float], int]]]]:
    """Sizes of one to three images with up to three different boxes and classes, at least one box in all."""
    images = []
    for position in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
        box = st.tuples(boxes_in(height, width), st.integers(0, len(LABELS) - 1))
        objects = st.lists(box, min_size=int(position == 0), max_size=3, unique_by=_rounded)
        images.append(((height, width), draw(objects)))
    return images


def _rounded(one: tuple[list[float], int]) -> tuple[float, ...]:
    """A box and class, without differences that a format may lose."""
    return (*(round(value, 3) for value in one[0]), one[1])


def data_set(folder: Path, split: str, images: list) -> DetectionData:
    """A split of plain grey images with these contents, its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for position, ((height, width), objects) in enumerate(images, 1):
        path = folder / f"{split} {position}.png"
        Image.new("RGB", (width, height), (90, 90, 90)).save(path)
        boxes = np.array([box for box, _ in objects], np.float32).reshape(-1, 4)
        records.append(
            DetectionRecord(
                path=path,
                image_id=position,
                size=(height, width),
                boxes=boxes,
                classes=np.array([label for _, label in objects], np.int64),
                crowd=np.zeros(len(boxes), bool),
                areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
            )
        )
    categories = tuple(Category(position, name) for position, name in enumerate(LABELS, 1))
    return DetectionData(folder, split, categories, tuple(records))


def assert_same(read: DetectionData, written: DetectionData, pixels: float = 0.5) -> None:
    """Both have the same images in any order, with the same classes by name and boxes within `pixels`."""
    theirs = {record.path.stem: record for record in read.records}
    assert set(theirs) == {record.path.stem for record in written.records}
    for record in written.records:
        other = theirs[record.path.stem]
        assert other.size == record.size
        assert [read.labels[label] for label in other.classes] == [
            written.labels[label] for label in record.classes
        ]
        np.testing.assert_allclose(other.boxes, record.boxes, atol=pixels)
        np.testing.assert_array_equal(other.crowd, record.crowd)


def assert_only_our_errors(data_format: object, root: Path) -> None:
    """Reading a damaged set gives records or an EffkerasError, nothing else."""
    for split in data_format.splits(root):  # type: ignore[attr-defined]
        for skip_bad in (False, True):
            with contextlib.suppress(EffkerasError):
                data_format.read(root, split, ReadOptions(skip_bad=skip_bad))  # type: ignore[attr-defined]


def assert_round_trip(
    data_format: DataFormat, train: list, test: list, *, pixels: float = 0.5, keeps_classes: bool = True
) -> None:
    """Two splits with these contents are read as they were written; with all classes if `keeps_classes`."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFKERAS_CACHE", str(Path(folder, "cache")))
        splits = [data_set(Path(folder, "in"), name, one) for name, one in (("train", train), ("test", test))]
        out = Path(folder, "out")
        out.mkdir()
        data_format.write(out, splits)
        assert data_format.splits(out) == ["test", "train"]
        for split in splits:
            found = data_format.read(out, split.split, ReadOptions())
            assert_same(found, split, pixels)
            assert found.clipped == ()
            if keeps_classes:
                assert found.labels == LABELS


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """The content with some bytes replaced, and cut off somewhere."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(0, len(changed)))])
