"""`effkeras predict MODEL IMAGE|FOLDER|VIDEO...`: prints predictions as JSON lines, and draws them."""

from __future__ import annotations

import argparse
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.commands.foreign_options import add_foreign, foreign_options
from effkeras.data.records import DetectionData, ReadOptions
from effkeras.data.splits import default_split, read_split
from effkeras.inference.threshold import DEFAULT, score_for
from effkeras.support.console import note, run_command, track
from effkeras.support.errors import EffkerasError
from effkeras.support.files import check_can_make, output_files
from effkeras.support.options import (
    ANY_HELP,
    Verb,
    above_zero,
    add_data,
    add_old_name,
    add_split,
    add_weights,
    explained,
    help_width,
    parser,
)
from effkeras.training.run import kept_options

if TYPE_CHECKING:
    from effkeras.inference.predict import ResultIds
    from effkeras.inference.predictor import Predictor

VERB = Verb("predict", "find objects or classes in images and videos")
_LINES = {
    "image": "the file; of a video: video, frame (from 0) and time (seconds)",
    "detections": "boxes by falling score, each with label, class (from 0), score, and box: "
    "[ymin, xmin, ymax, xmax] in pixels of the image",
    "masks": "each with label, class, pixels and COCO's segmentation",
    "classes": "the five likeliest classes of a classifier, each with label, class and score",
}
_COCO = (
    "--coco writes all boxes with image_id, category_id, bbox ([xmin, ymin, width, height]) and score. "
    "Images are numbered from 1 in the order of the printed lines (folders by path), and categories have the "
    "definition's ids, else numbers from 1. With --data, both have the ids of that data set: images by file, "
    "classes by name. Give --min-score 0 to compute AP."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line per image or video frame."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    chosen = _parser().parse_args(argv)

    from effkeras.inference.predict import images_in, write_results
    from effkeras.inference.predictor import open_predictor
    from effkeras.inference.video import is_video, open_video

    given = list(dict.fromkeys(chosen.images))
    videos = [path for path in given if is_video(path)]
    _check(chosen, videos)
    found = [images_in(path, without=chosen.save) for path in given if path not in videos]
    images = list(dict.fromkeys(image for some in found for image in some))
    targets = output_files(chosen.save, images, ".png") if chosen.save else {}
    drawn = output_files(chosen.save, videos, ".mp4") if chosen.save else {}
    data = _data(chosen)
    for path in videos:  # before the model is loaded
        with open_video(path):
            pass
    predictor = open_predictor(chosen.model, chosen.weights, foreign_options(chosen))
    ids = _ids(predictor, images, data) if chosen.coco else None
    score = score_for(chosen.model, predictor) if chosen.min_score is None else chosen.min_score
    if images:
        records = _of_images(predictor, images, score, targets)
        if ids is None:
            deque(records, maxlen=0)
        else:
            note(f"{chosen.coco}: {write_results(records, ids, chosen.coco)} boxes written")
    for path in videos:
        _of_video(predictor, path, _Video(score, chosen.every or 1, drawn.get(path)))
    if chosen.save and images:
        note(f"drawn images are in {chosen.save}/")


def _check(chosen: argparse.Namespace, videos: Sequence[Path]) -> None:
    """Raises EffkerasError for options that do not go together."""
    if chosen.every is not None and not videos:
        raise EffkerasError(f"--every goes with a video, which {chosen.images[0]} is not")
    if chosen.coco and videos:
        raise EffkerasError(f"--coco goes with images, and {videos[0]} is a video")
    if chosen.data and not chosen.coco:
        raise EffkerasError("--data gives the ids of images to --coco; give --coco FILE too")
    if chosen.coco:
        check_can_make(chosen.coco.parent)


def _data(chosen: argparse.Namespace) -> DetectionData | None:
    """The data set whose ids --coco takes."""
    if chosen.data is None:
        return None
    split = chosen.split or default_split(chosen.data)
    given = ReadOptions(skip_bad=chosen.skip_bad, one_based=chosen.one_based)
    data = read_split(chosen.data, split, kept_options(chosen.model, chosen.data, given))
    if not isinstance(data, DetectionData):
        raise EffkerasError(f"{chosen.data} has no boxes, whose ids --coco takes")
    return data


def _ids(predictor: Predictor, images: Sequence[Path], data: DetectionData | None) -> ResultIds:
    from effkeras.inference.predict import ResultIds

    spec = predictor.spec
    if not spec.detects:
        raise EffkerasError(f"--coco writes boxes, and {spec.name} finds none")
    return ResultIds.numbered(spec, images) if data is None else ResultIds.of_data(spec, images, data)


def _of_images(
    predictor: Predictor, images: Sequence[Path], score: float, targets: Mapping[Path, Path]
) -> Iterator[dict[str, Any]]:
    """Prints and draws the records of images, and yields them."""
    from effkeras.inference.predict import draw, json_line, predict

    for record in predict(predictor, images, score):
        print(json_line(record), flush=True)
        if targets:
            draw(record, targets[Path(record["image"])])
        yield record


@dataclass(frozen=True, slots=True)
class _Video:
    """What to do with a video: the least score, which frames, and the file of the drawing."""

    score: float
    every: int
    out: Path | None


def _of_video(predictor: Predictor, path: Path, how: _Video) -> None:
    from effkeras.inference.predict import drawn, json_line, predict_video
    from effkeras.inference.video import open_video, write_video

    with ExitStack() as stack:
        video = stack.enter_context(open_video(path))
        add = stack.enter_context(write_video(how.out, video)) if how.out else None
        frames = predict_video(predictor, video, how.score, how.every)
        shown = stack.enter_context(closing(track(frames, "frames", video.frames)))
        for frame, record in shown:
            if record["frame"] == frame.number:
                print(json_line(record), flush=True)
            if add:
                add(frame.time, drawn(record, frame.pixels))
    if how.out:
        note(f"the drawn video is {how.out}")


def _parser() -> argparse.ArgumentParser:
    options = parser(VERB.name, "Finds objects (or classes) in images and videos; one JSON line an image.")
    lines = [explained(word, meaning) for word, meaning in _LINES.items()]
    options.epilog = "\n".join(["keys of a line:", *lines, "", textwrap.fill(_COCO, help_width())])
    options.add_argument("model", help=ANY_HELP)
    options.add_argument(
        "images", type=Path, nargs="+", help="images, folders with images at any depth, and videos"
    )
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
    options.add_argument(
        "--coco", type=Path, metavar="FILE", help="also write all boxes as COCO results (see below)"
    )
    add_old_name(options, "--json", "--coco")
    add_data(options, required=False)
    add_split(options)
    add_foreign(options)
    return options
