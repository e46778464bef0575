"""`effkeras import SRC MODEL --out F.keras`: converts weights of another format to an effkeras model."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.data.classes import Classes
from effkeras.data.formats.class_folders import read_labels
from effkeras.data.label_maps import read_label_map
from effkeras.definitions import zoo
from effkeras.definitions.changes import with_classes
from effkeras.definitions.definition import ModelSpec
from effkeras.support.console import facts, hint, quiet, result, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, above_zero, add_json, parser

if TYPE_CHECKING:
    from effkeras.weights.loading import LoadReport, Opened


_SHOWN = 3  # names of classes

VERB = Verb("import", "make a .keras file of weights in another format")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a `.keras` file with weights from another format."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    if chosen.out.suffix != ".keras":
        raise EffkerasError(f"--out must end with .keras, not {chosen.out.name!r}")
    spec, names = zoo.spec(chosen.model), None
    if chosen.labels:
        names = _read_names(chosen.labels)
        spec = with_classes(spec, len(names.labels)).replace(labels=())
    if chosen.classes:
        spec = with_classes(spec, chosen.classes)
    with quiet():
        from effkeras.building.models import build_spec
        from effkeras.weights.keras_files import save
        from effkeras.weights.loading import open_weights

        folder = zoo.definition_folder(chosen.model)
        opened = open_weights(spec, chosen.source, padding=chosen.padding, folder=folder)
        spec = opened.spec
        if names:
            spec = _named(spec, names, chosen.classes or opened.classes, chosen.labels)
        model = build_spec(spec)
        report = opened.load_into(model)
        save(model, chosen.out)
    facts(str(chosen.out), _rows(spec, opened, report))
    found = {"weights": report.loaded, "format": report.kind, "skipped": list(report.skipped)}
    result({"file": str(chosen.out), "model": spec.name, **found, "classes": spec.classes})
    hint(shlex.join(["effkeras", "export", "tflite", str(chosen.out), "--recipe", "float32"]))


def _read_names(file: Path) -> Classes:
    """The names in a label map (.pbtxt, with its ids) or a text file (a name a line)."""
    if file.suffix == ".pbtxt":
        categories = read_label_map(file).categories
        return Classes(tuple(one.name for one in categories), tuple(one.id for one in categories))
    labels = read_labels(file)
    if not labels:
        raise EffkerasError(f"{file} is empty; write the name of a class on each line")
    return Classes(labels)


def _named(spec: ModelSpec, names: Classes, count: int | None, file: Path) -> ModelSpec:
    """The definition with the names. Raises EffkerasError unless there are `count`, if that is known."""
    given = len(names.labels)
    if count not in (None, given):
        raise EffkerasError(
            f"{file} names {given} classes, and there are {count}; name each, in the order of the weights "
            f"(--classes {given}: a new predictor for these)"
        )
    ids = names.category_ids if spec.is_detector else ()
    return spec.replace(labels=names.labels, category_ids=ids or spec.category_ids)


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Makes a .keras file from weights in another format, found out by content.")
    options.add_argument(
        "source",
        help="weights that MODEL knows by name, a TensorFlow checkpoint (prefix or folder), Keras weights "
        "(.h5, .weights.h5, .keras), or .safetensors or .pth of timm, effdet or EfficientNet-PyTorch",
    )
    options.add_argument("model", help="a name of `effkeras list`, or a TOML file")
    options.add_argument("--out", type=Path, required=True, metavar="F.keras", help="the file to write")
    options.add_argument(
        "--padding",
        choices=("same", "symmetric"),
        help="how the network of a .safetensors or .pth file pads, if neither its name nor config.json tells",
    )
    options.add_argument(
        "--classes", type=above_zero, metavar="N", help="other classes: their predictor starts at random"
    )
    options.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes: a text file with one a line, or a label map (.pbtxt)",
    )
    add_json(options)
    return options


def _rows(spec: ModelSpec, opened: Opened, report: LoadReport) -> list[tuple[str, str]]:
    card = opened.card
    rows = [
        ("model", spec.name),
        ("weights", f"{report.loaded} from {opened.path}"),
        ("format", report.kind),
        ("left at random", ", ".join(report.skipped) or "nothing"),
        ("classes", _classes(spec)),
        ("pixels", f"(pixels - {_plain(spec.input.mean)}) / {_plain(spec.input.std)}"),
    ]
    padding = spec.network.conventions().padding
    if padding is not None:
        rows.append(("padding", padding))
    if card is not None:
        rows += [("licence", card.licence or "not stated"), ("source", card.source or card.url)]
    return rows


def _classes(spec: ModelSpec) -> str:
    some = [*spec.labels[:_SHOWN], *(["..."] if len(spec.labels) > _SHOWN else [])]
    return f"{spec.classes}: {', '.join(some)}" if some else f"{spec.classes}, without names (--labels)"


def _plain(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
