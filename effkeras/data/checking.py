"""Checks a data set and lists all problems at once."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effkeras.data.all_splits import in_shared_classes, order_of_use
from effkeras.data.duplicates import NO_LOOK, alike, grouped
from effkeras.data.formats import DataFormat
from effkeras.data.images import Remark
from effkeras.data.masks import read_label_map
from effkeras.data.reading import same_shape, sides
from effkeras.data.records import DetectionData, DetectionRecord, LabelledData, ReadOptions
from effkeras.data.scanning import Scan, scan
from effkeras.data.sizes import Size, header_sizes, in_real_sizes, size_problem
from effkeras.data.splits import TEST, TRAIN, VALIDATION, check_exists, format_of
from effkeras.data.statistics import Boxes, all_boxes, without_boxes
from effkeras.definitions.class_names import class_key
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.memory import without_garbage_collection

SAME_OBJECT = 0.95  # IoU above which two boxes of a class are taken for the same object
_USED = (TRAIN, VALIDATION, "valid", TEST)  # splits that are never taken for unions
THINNEST, MOST_STRETCHED = 2.0, 25.0  # pixels of the shorter side; times the shorter side


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding: its key in JSON, and its title; `is_problem` is False for mere remarks."""

    key: str
    title: str
    is_problem: bool = True


SPLIT = Kind("split", "splits that cannot be read")
IMAGE = Kind("image", "images that are missing or broken")
MAP = Kind("label-map", "label maps that are broken")
CUT = Kind("cut", "image files that end early (what is missing is grey)")
ANNOTATION = Kind("annotation", "annotations that cannot be used")
SHAPE = Kind("shape", "images whose shape is not the one that their labels state")
SCALED = Kind("scaled", "images that were scaled after labelling (boxes are scaled with them)")
CLIPPED = Kind("clipped", "boxes that reach beyond their images (they are clipped)")
DOUBLE = Kind("double", "objects that have two boxes of one class (IoU above 0.95)")
THIN = Kind("thin", "very thin boxes (below 2 pixels, or 25 times as long as thick)")
NAMES = Kind("names", "class names that differ only in upper and lower case")
UNTRAINED = Kind("untrained", "classes that train lacks")
LEAK = Kind("leak", "images that are in several splits")
ALIKE_LEAK = Kind("alike-leak", "images that look like one of another split")
COPY = Kind("copy", "images that are in a split twice")
ALIKE = Kind("alike", "images that look like another one of their split", is_problem=False)
EMPTY = Kind("empty", "images without boxes", is_problem=False)
UNUSED = Kind("unused", "classes without boxes", is_problem=False)
DARK = Kind("dark", "16-bit images that are nearly black", is_problem=False)
FRAMES = Kind("frames", "images with several frames (the first is used)", is_problem=False)
UNION = Kind("union", "splits that only repeat the images of others (not checked again)", is_problem=False)

_OF_REMARKS = {Remark.CUT: CUT, Remark.DARK: DARK, Remark.FRAMES: FRAMES}


@dataclass(frozen=True, slots=True)
class Finding:
    """One item of a kind: its split, the file and place, and what is wrong with it."""

    kind: Kind
    split: str
    where: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. `splits` are those that could be read, in their stated sizes."""

    root: Path
    format: str
    splits: tuple[LabelledData, ...]
    findings: tuple[Finding, ...]
    scans: Mapping[Path, Scan]
    sizes: Mapping[Path, Size | EffkerasError]

    @property
    def has_problems(self) -> bool:
        """Whether there is more than remarks."""
        return any(one.kind.is_problem for one in self.findings)

    def by_kind(self) -> dict[Kind, list[Finding]]:
        """The findings by kind, problems first."""
        found: dict[Kind, list[Finding]] = defaultdict(list)
        for one in self.findings:
            found[one.kind].append(one)
        return dict(sorted(found.items(), key=lambda item: _ORDER.index(item[0])))


_ORDER = [
    SPLIT, IMAGE, MAP, CUT, ANNOTATION, SHAPE, SCALED, CLIPPED, DOUBLE, THIN, NAMES, UNTRAINED, LEAK,
    ALIKE_LEAK, COPY, ALIKE, EMPTY, UNUSED, DARK, FRAMES, UNION,
]  # fmt: skip


def check(root: Path, options: ReadOptions, *, decode: bool = True) -> Report:
    """Checks all splits of a data set.

    Args:
        root: the folder or file.
        options: how to read; `skip_bad` is always on.
        decode: decode all images. Otherwise only their headers are read, which finds no damage behind them,
            and no images that are equal or look alike.

    Raises:
        EffkerasError: there is no data set, or none of its splits can be read.
    """
    root = Path(root)
    check_exists(root)
    found = format_of(root)
    findings: list[Finding] = []
    splits, repeated = _without_unions(_read(found, root, replace(options, skip_bad=True), findings))
    findings += [Finding(UNION, one, one) for one in repeated]
    paths = [record.path for data in splits for record in data.records]
    scans = scan(root, paths) if decode else {}
    sizes = _sizes(scans) if decode else header_sizes(paths)
    for data in splits:
        findings += _of_reader(data)
        findings += _of_images(data, sizes, scans)
        findings += _of_boxes(data)
        if decode:
            findings += _of_label_maps(data)
    findings += _of_classes(splits)
    findings += _of_copies(root, splits, scans)
    return Report(root, found.title, splits, tuple(findings), scans, sizes)


def _read(
    found: DataFormat, root: Path, options: ReadOptions, findings: list[Finding]
) -> tuple[LabelledData, ...]:
    """The splits that can be read; the others become findings."""
    splits: list[LabelledData] = []
    for split in sorted(found.splits(root), key=order_of_use):
        try:
            with without_garbage_collection():
                splits.append(found.read(root, split, options))
        except EffkerasError as error:
            findings.append(Finding(SPLIT, split, split, str(error).removeprefix(f"{root}: ")))
    if not splits:
        first = findings[0] if findings else None
        raise EffkerasError(
            f"{root}: no split can be read" + (f"; {first.split}: {first.why}" if first else "")
        )
    return in_shared_classes(splits)


def _without_unions(splits: Sequence[LabelledData]) -> tuple[tuple[LabelledData, ...], list[str]]:
    """The splits without unions of others, such as "trainval"; and the names of these unions."""
    files = {data.split: {record.path for record in data.records} for data in splits}
    unions = []
    for name, own in files.items():
        parts = [other for key, other in files.items() if key != name and other < own]
        if name not in _USED and len(parts) > 1 and set().union(*parts) == own:
            unions.append(name)
    return tuple(data for data in splits if data.split not in unions), unions


def _sizes(scans: Mapping[Path, Scan]) -> dict[Path, Size | EffkerasError]:
    return {path: EffkerasError(one.problem) if one.problem else one.size for path, one in scans.items()}


def _of_reader(data: LabelledData) -> Iterator[Finding]:
    """What the reader left out or clipped."""
    for one in data.skipped:
        is_image = not isinstance(data, DetectionData) or one.is_image
        yield Finding(IMAGE if is_image else ANNOTATION, data.split, _short(one.what, data.root), one.why)
    for where in data.clipped if isinstance(data, DetectionData) else ():
        yield Finding(CLIPPED, data.split, where)


def _of_images(
    data: LabelledData, sizes: Mapping[Path, Size | EffkerasError], scans: Mapping[Path, Scan]
) -> Iterator[Finding]:
    """Broken images, other sizes than stated, unusual files, and images without boxes."""
    for record in data.records:
        real = sizes[record.path]
        if isinstance(real, EffkerasError):
            text = str(real).removeprefix(f"{record.path}: ")
            yield Finding(IMAGE, data.split, _short(record.path, data.root), text)
        elif isinstance(record, DetectionRecord) and real != record.size:
            scaled = same_shape(real, record.size)
            why = f"it has {sides(real)} pixels, and its labels say {sides(record.size)}"
            text = why if scaled else size_problem(real, record.size)
            yield Finding(SCALED if scaled else SHAPE, data.split, _short(record.path, data.root), text)
        if record.path in scans:
            for remark in scans[record.path].remarks:
                yield Finding(_OF_REMARKS[remark], data.split, _short(record.path, data.root))
    for place in without_boxes(data):
        yield Finding(EMPTY, data.split, _short(data.records[place].path, data.root))


def _of_label_maps(data: LabelledData) -> Iterator[Finding]:
    """PNG label maps that cannot be decoded."""
    maps = [one.masks for one in _detections([data]) if isinstance(one.masks, Path)]
    if not maps:
        return
    with ThreadPoolExecutor() as pool:
        problems = track(pool.map(_label_map_problem, maps), "reading label maps", len(maps))
        for path, problem in zip(maps, problems, strict=True):
            if problem:
                yield Finding(MAP, data.split, _short(path, data.root), problem)


def _label_map_problem(path: Path) -> str:
    try:
        read_label_map(path)
    except EffkerasError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def _of_boxes(data: LabelledData) -> Iterator[Finding]:
    """Thin boxes, and objects with two boxes."""
    if not isinstance(data, DetectionData):
        return
    table = all_boxes(data)
    for place in thin(table).tolist():
        yield Finding(THIN, data.split, _place(data, table, place), _corners(table.boxes[place]))
    for first, second in doubles(table):
        why = f"{_corners(table.boxes[first])} and {_corners(table.boxes[second])}"
        yield Finding(DOUBLE, data.split, _place(data, table, second), why)


def thin(table: Boxes) -> np.ndarray:
    """The positions of very thin boxes; crowds are left out."""
    heights_widths = table.boxes[:, 2:] - table.boxes[:, :2]
    low, high = heights_widths.min(axis=1, initial=np.inf), heights_widths.max(axis=1, initial=0)
    return np.flatnonzero(((low < THINNEST) | (high > MOST_STRETCHED * low)) & ~table.crowd)


def doubles(table: Boxes, overlap: float = SAME_OBJECT) -> list[tuple[int, int]]:
    """The pairs of boxes of one image and class with an IoU above `overlap`; crowds are left out."""
    kept = np.flatnonzero(~table.crowd)
    order = kept[np.lexsort((table.boxes[kept, 0], table.classes[kept], table.images[kept]))]
    boxes = table.boxes[order].astype(np.float64)
    group = table.images[order] * (table.classes.max(initial=0) + 1) + table.classes[order]
    # Their intersection is at most the shared height over the union of both: the tops are close together.
    reach = boxes[:, 0] + (boxes[:, 2] - boxes[:, 0]) * (1 - overlap) / overlap
    pairs: list[tuple[int, int]] = []
    first = np.arange(len(order))
    for step in itertools.count(1):
        # Sorted by top: a box that lies too far below lies further below for every later step.
        first = first[first + step < len(order)]
        first = first[(group[first] == group[first + step]) & (boxes[first + step, 0] <= reach[first])]
        if not len(first):
            return sorted(pairs)
        near = first[_iou(boxes[first], boxes[first + step]) > overlap]
        found = zip(order[near].tolist(), order[near + step].tolist(), strict=True)
        pairs += [(min(one, other), max(one, other)) for one, other in found]
    return pairs


def _iou(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The IoU of boxes (n, 4) of positive area, row by row."""
    inner = np.minimum(some[:, 2:], others[:, 2:]) - np.maximum(some[:, :2], others[:, :2])
    shared = np.maximum(inner, 0).prod(axis=1)
    both = (some[:, 2:] - some[:, :2]).prod(axis=1) + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / (both - shared)


def _of_classes(splits: Sequence[LabelledData]) -> Iterator[Finding]:
    labels = splits[0].labels
    cases: dict[str, list[str]] = defaultdict(list)
    for name in labels:
        cases[class_key(name).casefold()].append(name)
    for names in cases.values():
        if len(names) > 1:
            yield Finding(NAMES, "", " and ".join(map(repr, names)))
    if any(isinstance(one.masks, Path) for one in _detections(splits)):
        return  # the classes are in the label maps
    used = {data.split: _used(data) for data in splits}
    train = next((used[name] for name in sorted(used) if name.startswith(TRAIN)), None)
    for place, name in enumerate(labels):
        where = [split for split, classes in used.items() if place in classes]
        if not where:
            yield Finding(UNUSED, "", repr(name))
        elif train is not None and place not in train:
            yield Finding(UNTRAINED, "", repr(name), f"only {' and '.join(where)} {_have(where)} it")


def _detections(splits: Sequence[LabelledData]) -> Iterator[DetectionRecord]:
    return (one for data in splits if isinstance(data, DetectionData) for one in data.records)


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _used(data: LabelledData) -> set[int]:
    if isinstance(data, DetectionData):
        return set(np.unique(all_boxes(data).classes).tolist())
    return {record.label for record in data.records}


@dataclass(frozen=True, slots=True)
class _Image:
    split: str
    path: Path


def _of_copies(root: Path, splits: Sequence[LabelledData], scans: Mapping[Path, Scan]) -> Iterator[Finding]:
    """Images that are equal or look alike, within a split and between splits."""
    images = [_Image(data.split, record.path) for data in splits for record in data.records]
    images = [one for one in images if one.path not in scans or not scans[one.path].problem]
    keys = [scans[one.path].digest if one.path in scans else str(one.path) for one in images]
    for group in grouped(keys):
        yield _finding(root, [images[place] for place in group], COPY, LEAK, "the same image")
    first_of_key = {key: place for place, key in reversed(list(enumerate(keys)))}
    distinct = sorted(place for place in first_of_key.values() if images[place].path in scans)
    looks = [scans[images[place].path].look for place in distinct]
    for group in alike(looks):
        if looks[group[0]] != NO_LOOK:  # images without contrast have nothing to compare
            members = [images[distinct[place]] for place in group]
            yield _finding(root, members, ALIKE, ALIKE_LEAK, "it looks like")


def _finding(root: Path, group: Sequence[_Image], within: Kind, across: Kind, how: str) -> Finding:
    """A finding about images that belong together; of those in other splits, one each is named."""
    first = group[0]
    others = {one.split: one for one in reversed(group[1:]) if one.split != first.split}
    named = list(others.values()) or [group[1]]
    more = len(group) - 1 - len(named)
    texts = [f"{one.split}: {_short(one.path, root)}" for one in named]
    why = f"{how} as" if how.startswith("the same") else how
    text = f"{why} {', '.join(texts)}" + (f" and {more} more" if more else "")
    return Finding(across if others else within, first.split, _short(first.path, root), text)


def counted(findings: Iterable[Finding]) -> Counter[Kind]:
    """The number of findings by kind."""
    return Counter(one.kind for one in findings)


def repaired(report: Report) -> tuple[LabelledData, ...]:
    """The splits without what is broken, in the real sizes, each exact copy of a box removed.

    The reader has left out bad annotations and clipped boxes.
    """
    return tuple(_repaired(data, report) for data in report.splits)


def _repaired(data: LabelledData, report: Report) -> LabelledData:
    broken = {path for path, size in report.sizes.items() if isinstance(size, EffkerasError)}
    if not isinstance(data, DetectionData):
        return replace(data, records=tuple(one for one in data.records if one.path not in broken))
    resized = in_real_sizes(data, report.sizes)
    lost = (*data.skipped, *resized.refused)
    return replace(resized.data, records=tuple(map(_each_once, resized.data.records)), skipped=lost)


def _each_once(record: DetectionRecord) -> DetectionRecord:
    """The record with each of its boxes once."""
    rows = np.column_stack([record.classes, record.crowd, np.round(record.boxes, 2)])
    kept = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    if len(kept) == len(record.boxes):
        return record
    masks = record.masks
    if isinstance(masks, tuple) and masks:
        masks = tuple(masks[place] for place in kept)
    return replace(
        record,
        boxes=record.boxes[kept],
        classes=record.classes[kept],
        crowd=record.crowd[kept],
        areas=record.areas[kept],
        masks=masks,
    )


def _place(data: DetectionData, table: Boxes, place: int) -> str:
    """The image and class of a box."""
    path = data.records[table.images[place]].path
    return f"{_short(path, data.root)}: {data.labels[table.classes[place]]!r}"


def _corners(box: np.ndarray) -> str:
    ymin, xmin, ymax, xmax = (f"{value:.6g}" for value in box)
    return f"x {xmin} to {xmax}, y {ymin} to {ymax}"


def _short(path: Path | str, root: Path) -> str:
    """A path within the data set."""
    return str(path).removeprefix(f"{root}/")
