"""`effkeras predict MODEL IMAGE|FOLDER|VIDEO`: prints predictions as JSON lines, and draws them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from effkeras.inference.threshold import DEFAULT, threshold_for
from effkeras.support.console import note, run_command, track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import output_files
from effkeras.support.options import ANY_HELP, Verb, above_zero, add_weights, parser

if TYPE_CHECKING:
    from effkeras.inference.predictor import Predictor

VERB = Verb("predict", "find objects or classes in images and videos")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line per image or video frame."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)

    from effkeras.inference.video import is_video

    if is_video(chosen.images):
        _of_video(chosen)
    elif chosen.every is not None:
        raise EffkerasError(f"--every goes with a video, which {chosen.images} is not")
    else:
        _of_images(chosen)


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Finds objects (or classes) in images and videos; one JSON line an image.")
    options.add_argument("model", help=ANY_HELP)
    options.add_argument("images", type=Path, help="an image, a folder with images at any depth, or a video")
    add_weights(options)
    options.add_argument(
        "--min-score",
        type=float,
        help="leave out boxes with a lower score (default: the best threshold on val, which the run or the "
        f"exported file keeps; {DEFAULT} without one)",
    )
    options.add_argument(
        "--every", type=above_zero, metavar="N", help="look at every N-th frame of a video (default: 1)"
    )
    options.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=Path("predictions"),
        metavar="DIR",
        help="also write the images or the video with boxes drawn (default: predictions/)",
    )
    return options


def _min_score(chosen: argparse.Namespace, predictor: Predictor) -> float:
    """The score from which boxes are printed: as chosen, else the model's own threshold."""
    if chosen.min_score is not None or not predictor.spec.detects:
        return float(chosen.min_score or 0)
    kept = threshold_for(chosen.model, predictor)
    if kept is None:
        return DEFAULT
    note(f"boxes from score {kept.score:.4g} on: the best threshold on {kept.images} images of {kept.split}")
    return kept.score


def _of_images(chosen: argparse.Namespace) -> None:
    from effkeras.inference.predict import draw, images_in, predict
    from effkeras.inference.predictor import open_predictor

    paths = images_in(chosen.images, without=chosen.save)
    targets = output_files(chosen.save, paths, ".png") if chosen.save else {}
    predictor = open_predictor(chosen.model, chosen.weights)
    for record in predict(predictor, paths, _min_score(chosen, predictor)):
        print(json.dumps(record), flush=True)
        if chosen.save:
            draw(record, targets[Path(record["image"])])
    if chosen.save:
        note(f"drawn images are in {chosen.save}/")


def _of_video(chosen: argparse.Namespace) -> None:
    from effkeras.inference.predict import drawn, predict_video
    from effkeras.inference.predictor import open_predictor
    from effkeras.inference.video import open_video, write_video

    out = output_files(chosen.save, [chosen.images], ".mp4")[chosen.images] if chosen.save else None
    with ExitStack() as stack:
        video = stack.enter_context(open_video(chosen.images))
        predictor = open_predictor(chosen.model, chosen.weights)
        add = stack.enter_context(write_video(out, video)) if out else None
        frames = predict_video(predictor, video, _min_score(chosen, predictor), chosen.every or 1)
        shown = stack.enter_context(closing(track(frames, "frames", video.frames)))
        for frame, record in shown:
            if record["frame"] == frame.number:
                print(json.dumps(record), flush=True)
            if add:
                add(frame.time, drawn(record, frame.pixels))
    if out:
        note(f"the drawn video is {out}")
