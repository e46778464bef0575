"""Images for a report: before and after compression, and where the network looks.

They need the trained model, its smallest artifact, and the data set of the training on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effkeras.data.images import read_image
from effkeras.data.preprocess import fill, place
from effkeras.data.records import LabelledData, ReadOptions
from effkeras.data.splits import default_split, read_split
from effkeras.inference.contact_sheet import Sheet as Layout
from effkeras.inference.contact_sheet import Tile, contact_sheet
from effkeras.inference.evaluate import evaluate_in_detail
from effkeras.inference.evaluation_files import FOLDER
from effkeras.inference.explain import Explainer, overlay, share_inside
from effkeras.inference.predictor import KerasPredictor, Predictor, open_predictor
from effkeras.inference.task import Example, label_of
from effkeras.inference.threshold import DEFAULT, kept_threshold
from effkeras.support.console import note
from effkeras.support.errors import EffkerasError
from effkeras.support.files import make_folder, whole_file
from effkeras.support.pages import Sheet
from effkeras.training.run import kept_options
from quantize.runs.records import Artifact, RunData

IMAGES = 24  # that both run on; of these the report shows
_EACH = 2  # that lost most, and as many that gained most
EXPLAINED = "explained.png"


@dataclass(frozen=True, eq=False, slots=True)
class _Pair:
    """An image, judged with the float model and with the artifact."""

    before: Example
    after: Example

    @property
    def gain(self) -> float:
        return self.after.score - self.before.score


def comparison_sheets(run: RunData) -> tuple[Sheet, ...]:
    """The sheets of a run; () where it lacks model, artifact or data, which a line says if it is a surprise.

    They are kept in RUN/evaluation, and drawn again once the model or the artifact is newer.
    """
    artifact = _smallest(run)
    if artifact is None or not run.trained.data or not (run.folder / "model.keras").is_file():
        return ()
    compared = f"compared-{Path(artifact.file).stem}.png"  # the smallest may become another one
    files = [run.folder / FOLDER / name for name in (compared, EXPLAINED)]
    sources = [run.folder / "model.keras", run.folder / "artifacts" / artifact.file]
    if not _is_newer(files[0], sources):
        if not Path(run.trained.data).exists():
            return ()
        try:
            _draw(run, artifact, files)
        except EffkerasError as error:
            note(f"the report has no images before and after compression: {error}")
            return ()
    return tuple(_described(file, artifact) for file in files if _is_newer(file, sources))


def _described(file: Path, artifact: Artifact) -> Sheet:
    if file.name != EXPLAINED:
        return Sheet(
            f"Before and after: {artifact.name}",
            file,
            f"Images with what the float model finds, beside what {artifact.name} finds",
            f"Of {IMAGES} images: first those that lost most, then those that gained most or stayed best. "
            "Dashed boxes were not found.",
        )
    return Sheet(
        "Where the network looks",
        file,
        "Images, each beside a heat map of what speaks for its surest box or class",
        "Grad-CAM of the surest find, red where most: it should lie on the object. See effkeras explain.",
    )


def _smallest(run: RunData) -> Artifact | None:
    """The smallest artifact on the front by size whose file is there."""
    best = run.best_by_size()
    there = [one for one in run.artifacts if one.file in best and one.file.endswith(".tflite")]
    there = [one for one in there if one.path_in(run.folder)]
    return min(there, key=lambda one: one.size or 0, default=None)


def _is_newer(file: Path, sources: Sequence[Path]) -> bool:
    times = [one.stat().st_mtime_ns for one in sources if one.exists()]
    return file.is_file() and file.stat().st_mtime_ns > max(times)


def _draw(run: RunData, artifact: Artifact, files: Sequence[Path]) -> None:
    root, model = Path(run.trained.data), open_predictor(run.folder)
    accuracy = artifact.accuracy
    split = accuracy.split if accuracy else default_split(root)
    data = read_split(root, split, kept_options(run.folder, root, ReadOptions()))
    kept = kept_threshold(run.folder)
    score = kept.score if kept else None
    path = run.folder / "artifacts" / artifact.file
    before = _examples(model, data, score, "float model")
    after = {one.path: one for one in _examples(open_predictor(path), data, score, artifact.name)}
    pairs = [_Pair(one, after[one.path]) for one in before if one.path in after]
    if not pairs:
        raise EffkerasError(f"{run.spec.name} has no judged images")
    make_folder(files[0].parent)
    chosen = _chosen(pairs)
    labels = [label_of(run.spec, index) for index in range(run.spec.classes)]
    tiles = [tile for pair in chosen for tile in _beside(pair, artifact.name)]
    _save(tiles, Layout("Before and after compression", labels, dashed="not found"), files[0])
    files[1].unlink(missing_ok=True)
    if isinstance(model, KerasPredictor) and (run.spec.detects or not run.spec.is_detector):
        explained = list(_explained(model, chosen, DEFAULT if score is None else score))
        if explained:
            _save(explained, Layout("Where the network looks", labels), files[1])


def _examples(model: Predictor, data: LabelledData, score: float | None, name: str) -> Sequence[Example]:
    found = evaluate_in_detail(model, data, limit=IMAGES, title=name)
    return next(iter(found.judges.values())).details(score).examples


def _chosen(pairs: Sequence[_Pair]) -> list[_Pair]:
    """The pairs that lost most, then those that gained most; of equal ones the best, with most boxes."""
    order = sorted(pairs, key=lambda one: (one.gain, one.after.score, len(one.after.boxes)))
    return list(dict.fromkeys([*order[:_EACH], *order[::-1][:_EACH]]))


def _beside(pair: _Pair, name: str) -> Iterator[Tile]:
    pixels = read_image(pair.before.path)
    for one, title in ((pair.before, "float model"), (pair.after, name)):
        shown = f"{title}: {one.line}"
        yield Tile(
            pixels, one.boxes, one.classes, one.is_missed, one.path.name, shown, is_copy=one is pair.after
        )


def _explained(model: KerasPredictor, pairs: Sequence[_Pair], score: float) -> Iterator[Tile]:
    explainer = Explainer.of(model)
    for pair in pairs:
        content = place(read_image(pair.before.path), explainer.spec.input).content
        pixels, (height, width) = fill(content, explainer.spec.input), content.shape[:2]
        targets = explainer.targets(pixels, score, 1)
        for target, heat in zip(targets, explainer.grad_cam(pixels, targets), strict=True):
            boxes = np.zeros((0, 4), np.float32) if target.box is None else target.box[None]
            classes = np.full(len(boxes), target.label)
            none, line = np.zeros(len(boxes), bool), f"{target.name} {target.score:.2f}"
            yield Tile(content, boxes, classes, none, pair.before.path.name, line)
            if target.box is not None:
                line = f"{share_inside(heat, target.box):.0%} of the map in the box"
            shown = overlay(pixels, heat)[:height, :width]
            yield Tile(shown, boxes, classes, none, "what speaks for it", line, is_copy=True)


def _save(tiles: Sequence[Tile], layout: Layout, file: Path) -> None:
    with whole_file(file) as aside:
        contact_sheet(tiles, layout).save(aside, format="PNG")
