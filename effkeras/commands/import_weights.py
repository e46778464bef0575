"""`effkeras import SRC MODEL --out F.keras`: converts weights of another format to an effkeras model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.definitions import zoo
from effkeras.definitions.changes import with_classes
from effkeras.support.console import facts, note, quiet, run_command
from effkeras.support.errors import EffkerasError
from effkeras.support.options import Verb, above_zero, parser

if TYPE_CHECKING:
    from effkeras.weights.loading import LoadReport, Opened


VERB = Verb("import", "make a .keras file of weights in another format")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a `.keras` file with weights from another format."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)
    if chosen.out.suffix != ".keras":
        raise EffkerasError(f"--out must end with .keras, not {chosen.out.name!r}")
    spec = zoo.spec(chosen.model)
    if chosen.classes:
        spec = with_classes(spec, chosen.classes)
    with quiet():
        from effkeras.building.models import build_spec
        from effkeras.weights.keras_files import save
        from effkeras.weights.loading import open_weights

        folder = zoo.definition_folder(chosen.model)
        opened = open_weights(spec, chosen.source, padding=chosen.padding, folder=folder)
        model = build_spec(opened.spec)
        report = opened.load_into(model)
        save(model, chosen.out)
    facts(str(chosen.out), _rows(opened, report))
    note(f"next: effkeras eval {chosen.out} --data DIR, or effkeras export tflite {chosen.out}")


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Makes a .keras file from weights in another format, found out by content.")
    options.add_argument(
        "source",
        help="weights that MODEL knows by name, a TensorFlow checkpoint (prefix or folder), Keras weights "
        "(.h5, .weights.h5, .keras), or timm's or effdet's .safetensors",
    )
    options.add_argument("model", help="a name of `effkeras list`, or a TOML file")
    options.add_argument("--out", type=Path, required=True, metavar="F.keras", help="the file to write")
    options.add_argument(
        "--padding",
        choices=("same", "symmetric"),
        help="how the network of a .safetensors file pads, if neither its name nor config.json tells",
    )
    options.add_argument(
        "--classes", type=above_zero, metavar="N", help="other classes: their predictor starts at random"
    )
    return options


def _rows(opened: Opened, report: LoadReport) -> list[tuple[str, str]]:
    spec, card = opened.spec, opened.card
    rows = [
        ("model", spec.name),
        ("weights", f"{report.loaded} from {opened.path}"),
        ("format", report.kind),
        ("left at random", ", ".join(report.skipped) or "nothing"),
        ("pixels", f"(pixels - {_plain(spec.input.mean)}) / {_plain(spec.input.std)}"),
    ]
    padding = spec.network.conventions().padding
    if padding is not None:
        rows.append(("padding", padding))
    if card is not None:
        rows += [("licence", card.licence or "not stated"), ("source", card.source or card.url)]
    return rows


def _plain(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
