"""Pascal VOC: an XML file for each image; reader and writer.

The format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. Corners are read and
written as they stand, as edges between pixels: a box over the whole of a 640 x 480 image has xmin 0, ymin 0,
xmax 640, ymax 480. The original sets count pixels from 1: `one_based` then subtracts 1 from xmin and ymin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # only for types and writing

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from effkeras.data.formats import FORMATS, WHOLE, DataFormat, Evidence
from effkeras.data.image_files import ImageFinder, first_bytes, relative_parts
from effkeras.data.images import SUFFIXES, list_folder, subfolders
from effkeras.data.records import DetectionData, DetectionRecord, LabelledData, ReadOptions
from effkeras.data.split_builder import Annotation, Corners, SplitBuilder
from effkeras.data.writing import copy_images, detection, names_in_one_folder, short
from effkeras.support import files
from effkeras.support.console import note_once
from effkeras.support.errors import EffkerasError, first_line

_ANNOTATIONS, _IMAGES, _SETS = "Annotations", "JPEGImages", Path("ImageSets", "Main")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@FORMATS.register("voc")
class Voc(DataFormat):
    """Pascal VOC's XML files, in the layout of the devkit or beside the images."""

    title = "Pascal VOC"
    layout = "Annotations/*.xml with JPEGImages/ and ImageSets/Main/SPLIT.txt, or *.xml beside the images"
    evidence = Evidence.LABEL_FILE

    def splits(self, root: Path) -> list[str]:
        """The lists in ImageSets/Main, else the folders with XML files, else `WHOLE`."""
        if not _label_folder(root):
            return sorted(_split_folders(root))
        return sorted(_lists(root)) or [WHOLE]

    def read(self, root: Path, split: str, options: ReadOptions) -> DetectionData:
        """Reads a split. A `difficult` object is ignored like a crowd, as in VOC's own evaluation."""
        if split not in self.splits(root):
            raise self.missing_split(root, split)
        folder = root if _label_folder(root) else root / split
        labels = _label_folder(folder)
        assert labels is not None
        lists = _lists(folder)
        names = _listed(lists[split]) if split in lists else _stems(labels)
        return _read(root, split, _Files(labels, _image_folder(folder, labels)), names, options)

    def write(self, folder: Path, splits: Sequence[LabelledData]) -> None:
        """Writes the devkit's layout; crowds become `difficult`. Masks are not written, which is noted."""
        names = names_in_one_folder(splits)
        for data in splits:
            _write_split(folder, detection(data, self.title), names)


class _Files:
    """The XML files and images of a data set."""

    def __init__(self, labels: Path, images: Path) -> None:
        self.labels = ImageFinder(labels)
        self.images = ImageFinder(images, sorted(SUFFIXES))


def _label_folder(folder: Path) -> Path | None:
    """The folder of XML files: Annotations, or the folder itself."""
    return next((one for one in (folder / _ANNOTATIONS, folder) if _has_voc(one)), None)


def _has_voc(folder: Path) -> bool:
    """Whether the first XML file of a folder is an annotation of VOC."""
    try:
        first = next((one for one in list_folder(folder) if _is_xml(one)), None)
    except EffkerasError:
        return False
    return first is not None and b"<annotation" in first_bytes(first)


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and not path.name.startswith(".")


def _split_folders(root: Path) -> list[str]:
    """The folders with annotations of their own, as Roboflow writes them."""
    if not root.is_dir():
        return []
    return [one.name for one in subfolders(root) if _label_folder(one)]


def _lists(root: Path) -> dict[str, Path]:
    """The lists of images by split, without those of one class, such as cat_train.txt by train.txt."""
    folder = root / _SETS
    paths = [one for one in list_folder(folder) if one.suffix == ".txt"] if folder.is_dir() else []
    lists = {one.stem: one for one in paths}
    found = {name: path for name, path in lists.items() if not _is_of_one_class(name, path, lists)}
    if {"train", "val"} <= found.keys():
        found.pop("trainval", None)  # both together
    return found


def _is_of_one_class(name: str, path: Path, lists: Mapping[str, Path]) -> bool:
    """Whether a list belongs to one class: its lines then end with 1, 0 or -1."""
    has_split = any(name.endswith(f"_{other}") for other in lists)
    return has_split and _first_line(path).split()[-1:] in (["1"], ["0"], ["-1"])


def _first_line(path: Path) -> str:
    return next(iter(first_bytes(path).decode(errors="replace").splitlines()), "")


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EffkerasError(f"cannot read {path} ({error}); write one image name per line") from error
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _stems(labels: Path) -> list[str]:
    return [path.stem for path in list_folder(labels) if _is_xml(path)]


def _image_folder(folder: Path, labels: Path) -> Path:
    candidates = (folder / _IMAGES, folder / "images")
    return next((one for one in candidates if one.is_dir()), labels)


def _read(root: Path, split: str, own: _Files, names: Iterable[str], options: ReadOptions) -> DetectionData:
    builder = SplitBuilder(root, split, options)
    for name in names:
        where = f"{name}.xml"
        try:
            content = _parse(own.labels.find(where))
            image = _image(content, name, own.images)
        except EffkerasError as error:
            builder.lose_image(where, str(error))
            continue
        annotations = _objects(content, one_based=options.one_based)
        builder.add(image, _size(content), annotations, where=where)
    return builder.build()


def _parse(path: Path) -> Any:
    try:
        content = parse(path)
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        raise EffkerasError(f"not valid XML ({first_line(error)})") from error
    if content.getroot().tag != "annotation":
        raise EffkerasError("not an annotation of Pascal VOC")
    return content.getroot()


def _image(content: Any, name: str, finder: ImageFinder) -> Path:
    """The image of the XML file's name, which tools keep when they copy; else the one that the XML names."""
    stated = (content.findtext("filename") or "").strip()
    try:
        by_name = finder.find(name)
    except EffkerasError:
        if not stated:
            raise
        return finder.find(stated)
    if stated and Path(relative_parts(stated)[-1]).stem != by_name.stem:
        note_once(f"{name}.xml names the image {stated!r}; {by_name.name}, named like the XML file, is used")
    return by_name


def _size(content: Any) -> tuple[int, int] | None:
    """The stated height and width; None, to read it from the image, without them or with zeros."""
    sides = [_number(content.findtext(f"size/{side}")) for side in ("height", "width")]
    if not all(math.isfinite(side) and side >= 1 for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def _objects(content: Any, *, one_based: bool) -> Iterable[Annotation]:
    for number, one in enumerate(content.findall("object"), 1):
        label = (one.findtext("name") or "").strip()
        box, problem = _corners(one.find("bndbox"), one_based=one_based)
        yield Annotation(
            what=f"object {number} ({label[:40]!r})",
            label=label,
            corners=box,
            problem=problem or ("" if label else "it has no name"),
            crowd=(one.findtext("difficult") or "").strip() == "1",
            shown=_shown(one.find("bndbox")),
        )


def _corners(element: Any, *, one_based: bool) -> tuple[Corners | None, str]:
    if element is None:
        return None, "it has no bndbox"
    texts = {key: (element.findtext(key) or "").strip() for key in _CORNERS}
    left, top, right, bottom = (_number(text) for text in texts.values())
    if not all(map(math.isfinite, (top, left, bottom, right))):
        return None, f"its bndbox {texts} has a value that is not a finite number"
    if one_based:
        top, left = top - 1, left - 1
    return (top, left, bottom, right), ""


def _shown(element: Any) -> str:
    return "" if element is None else " ".join(f"{one.tag}={(one.text or '').strip()}" for one in element)


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _write_split(folder: Path, data: DetectionData, names: Mapping[Path, str]) -> None:
    copy_images(data, folder / _IMAGES, names)
    if any(record.masks for record in data.records):
        note_once(f"{data.root}: Pascal VOC has no place for masks: only the boxes are written")
    for record in data.records:
        path = folder / _ANNOTATIONS / f"{Path(names[record.path]).stem}.xml"
        files.write_bytes(path, _document(record, names[record.path], data.labels))
    lines = "".join(f"{Path(names[record.path]).stem}\n" for record in data.records)
    files.write_text(folder / _SETS / f"{data.split}.txt", lines)


def _document(record: DetectionRecord, name: str, labels: Sequence[str]) -> bytes:
    top = ElementTree.Element("annotation")
    _add(top, {"folder": _IMAGES, "filename": name})
    height, width = record.size
    _add(ElementTree.SubElement(top, "size"), {"width": width, "height": height, "depth": 3})
    for box, label, crowd in zip(record.boxes, record.classes, record.crowd, strict=True):
        element = ElementTree.SubElement(top, "object")
        _add(element, {"name": labels[label], "truncated": 0, "difficult": int(crowd)})
        corners = dict(zip(_CORNERS, map(short, box[[1, 0, 3, 2]]), strict=True))
        _add(ElementTree.SubElement(element, "bndbox"), corners)
    ElementTree.indent(top)
    return ElementTree.tostring(top, encoding="utf-8") + b"\n"


def _add(element: Any, texts: Mapping[str, object]) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(element, tag).text = str(text)
