"""`effkeras predict MODEL IMAGE|FOLDER`: JSON lines, and pictures with their boxes drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from effkeras.commands.options import ANY_HELP, add_weights, parser
from effkeras.console import note, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line a picture."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = parser("predict", "Finds objects (or classes) in pictures; one JSON line a picture.")
    options.add_argument("model", help=ANY_HELP)
    options.add_argument("pictures", type=Path, help="a picture or a folder of pictures")
    add_weights(options)
    options.add_argument(
        "--min-score", type=float, default=0.3, help="leave out what is less sure (default: 0.3)"
    )
    options.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=Path("predictions"),
        metavar="DIR",
        help="also write the pictures with boxes drawn (default: predictions/)",
    )
    chosen = options.parse_args(argv)

    from effkeras.predict import draw, pictures_in, predict
    from effkeras.predictor import open_predictor

    paths = pictures_in(chosen.pictures)
    predictor = open_predictor(chosen.model, chosen.weights)
    for record in predict(predictor, paths, chosen.min_score):
        print(json.dumps(record), flush=True)
        if chosen.save:
            draw(record, chosen.save / (Path(record["picture"]).stem + ".png"))
    if chosen.save:
        note(f"drawn pictures are in {chosen.save}/")
