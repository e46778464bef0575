"""`effkeras explain MODEL IMAGE|FOLDER...`: draws where the network looks for each class or box."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.inference.threshold import DEFAULT, score_for
from effkeras.support.console import note, run_command, track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder, output_files, whole_file
from effkeras.support.options import MODEL_HELP, Verb, above_zero, add_old_name, add_weights, parser

if TYPE_CHECKING:
    import numpy as np

    from effkeras.inference.contact_sheet import Tile
    from effkeras.inference.explain import Explainer, Target

VERB = Verb("explain", "draw where a network looks: a heat map a class or box")
_ABOUT = (
    "Draws where a network looks, one page an image: what speaks for its best boxes or classes (Grad-CAM), "
    "red where most. With --occlusion also what each score loses where a square of the image is hidden: this "
    "needs no gradient, and should show the same."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes one PNG an image."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)

    from effkeras.data.images import read_image
    from effkeras.inference.explain import Explainer
    from effkeras.inference.predict import images_in
    from effkeras.inference.predictor import KerasPredictor, open_predictor

    images = list(dict.fromkeys(image for path in chosen.images for image in images_in(path, chosen.out)))
    files = output_files(chosen.out, images, ".png")
    predictor = open_predictor(chosen.model, chosen.weights)
    if not isinstance(predictor, KerasPredictor):
        raise EffkerasError(
            f"{chosen.model} has no gradients; give the run folder or .keras file it was made of"
        )
    score = score_for(chosen.model, predictor) if chosen.min_score is None else chosen.min_score
    explainer = Explainer.of(predictor)
    make_folder(chosen.out)
    without = 0
    for path in track(images, "explaining", len(images)):
        tiles = _tiles(explainer, read_image(path), score, chosen)
        without += len(tiles) == 1
        _write(tiles, path.name, explainer, files[path])
    if without:
        note(f"{without} of {len(images)} images show nothing of score {score:.2f} or more (--min-score)")
    note(f"{len(images)} {'page is' if len(images) == 1 else 'pages are'} in {chosen.out}/")


def _tiles(explainer: Explainer, image: np.ndarray, score: float, chosen: argparse.Namespace) -> list[Tile]:
    """The image with all boxes that are explained, then a tile or two for each."""
    import numpy as np

    from effkeras.inference.contact_sheet import Tile
    from effkeras.inference.explain import network_pixels, overlay

    pixels = network_pixels(image, explainer.spec)
    targets = explainer.targets(pixels, score, chosen.top)
    heats = explainer.grad_cam(pixels, targets)
    hidden = explainer.occlusion(pixels, targets) if chosen.occlusion and targets else []

    def tile(background: np.ndarray, some: Sequence[Target], title: str, line: str) -> Tile:
        boxes = np.array([one.box for one in some if one.box is not None], np.float32).reshape(-1, 4)
        classes = np.array([one.label for one in some if one.box is not None], np.int64)
        return Tile(background, boxes, classes, np.zeros(len(boxes), bool), title, line)

    found = "boxes" if explainer.spec.is_detector else "classes"
    tiles = [tile(pixels.astype(np.uint8), targets, "the image", f"{len(targets)} {found}")]
    for number, (target, heat) in enumerate(zip(targets, heats, strict=True)):
        line = _line(target, heat)
        tiles.append(tile(overlay(pixels, heat), [target], f"{target.name} {target.score:.2f}", line))
        if hidden:
            tiles.append(
                tile(overlay(pixels, hidden[number]), [target], "occlusion", _line(target, hidden[number]))
            )
    return tiles


def _line(target: Target, heat: np.ndarray) -> str:
    from effkeras.inference.explain import share_inside

    if target.box is None:
        return ""
    return f"{share_inside(heat, target.box):.0%} of the map in the box"


def _write(tiles: Sequence[Tile], name: str, explainer: Explainer, out: Path) -> None:
    from effkeras.inference.contact_sheet import Sheet, contact_sheet
    from effkeras.inference.task import label_of

    spec = explainer.spec
    labels = [label_of(spec, index) for index in range(spec.classes)]
    sheet = Sheet(f"{spec.name}: {name}", labels, columns=min(4, len(tiles)))
    page = contact_sheet(tiles, sheet)
    with whole_file(out) as temporary:
        page.save(temporary, format="PNG")


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, _ABOUT)
    options.add_argument("model", help=MODEL_HELP)
    options.add_argument("images", type=Path, nargs="+", help="images, and folders with images at any depth")
    add_weights(options)
    options.add_argument(
        "--min-score",
        type=float,
        help=f"leave out boxes with a lower score (default: the run's best threshold on val; {DEFAULT} else)",
    )
    options.add_argument(
        "--top", type=above_zero, default=5, metavar="N", help="boxes or classes of an image (default: 5)"
    )
    add_old_name(options, "--most", "--top")
    options.add_argument("--occlusion", action="store_true", help="also hide one square after another")
    options.add_argument(
        "--out", type=Path, default=Path("explained"), metavar="DIR", help="default: explained/"
    )
    return options
