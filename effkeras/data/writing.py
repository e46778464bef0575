"""What the writers of all formats share: the images of a split are copied, and named, once."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from effkeras.data.image_files import unique_names
from effkeras.data.records import DetectionData, LabelledData
from effkeras.support.console import track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder


def names_in_one_folder(splits: Iterable[LabelledData]) -> Mapping[Path, str]:
    """The file names of the images of all splits for a format that keeps them in one folder."""
    return unique_names(record.path for data in splits for record in data.records)


def copy_images(
    data: LabelledData, folder: Path, names: Mapping[Path, str] | None = None
) -> Mapping[Path, str]:
    """Copies the images of a split into `folder`, and returns each one's new file name.

    Images of different folders with the same name get the name of their folder in front. A format that keeps
    the images of all splits in one folder gives the `names_in_one_folder`. Raises EffkerasError when a file
    cannot be read or written.
    """
    names = names or unique_names(record.path for record in data.records)
    make_folder(folder)
    paths = list(dict.fromkeys(record.path for record in data.records))
    for path in track(paths, f"copying {data.split}", total=len(paths)):
        name = names[path]
        try:
            shutil.copyfile(path, folder / name)
        except OSError as error:
            raise EffkerasError(f"cannot copy {path} to {folder}: {error.strerror}") from error
    return names


def short(value: float) -> float:
    """A coordinate without needless decimals: a whole number, or at most three digits after the point."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded


def detection(data: LabelledData, title: str) -> DetectionData:
    """The data itself. Raises EffkerasError when a format of boxes cannot hold it."""
    if not isinstance(data, DetectionData):
        raise EffkerasError(f"{data.root}: {title} holds boxes, and these images have classes only")
    return data
