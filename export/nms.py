"""Operators for non-maximum suppression (NMS) after a detector's float32 heads.

`suppression` uses built-in operators, which run wherever LiteRT does: hard, or soft as in the evaluator. It
follows `effkeras.detection.nms.detect`: choose candidates, decode their boxes, suppress across classes.

`postprocess` uses TFLite_Detection_PostProcess, the operator that phones and Edge TPUs expect. These facts
are undocumented; they come from its source, detection_postprocess.cc of LiteRT:

- "Regular" NMS suppresses within a class. "Fast" NMS takes each anchor's best class and suppresses across
  classes, as `effkeras.detection.nms` does with `method = "hard"`, including the order of ties.
- The operator only compares scores. So it receives logits, and the sigmoid follows on the few scores that
  are kept: the result is exact, costs thousands of times less than on every anchor and class, and is finer
  than an 8-bit sigmoid, whose steps of 1/256 would turn most scores into ties. On an Edge TPU, the CPU takes
  over after the heads either way.
- Fast mode does not write the rows after the last detection; `export.finishing` clears them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from effkeras.definitions.definition import ModelSpec, NmsSpec
from effkeras.detection.boxes import anchor_boxes
from effkeras.detection.nms import MAX_CANDIDATES
from effkeras.litert.editor import GraphEditor, Result, Value

OPERATOR = "TFLite_Detection_PostProcess"
_NEVER = -1e30
# The operator refuses a threshold of 0.
_SMALLEST_IOU = 1e-6
# Boxes of the same anchor but different classes are moved apart by this share of the image, less than a
# thousandth of a pixel. Soft suppression keeps several classes of an anchor, but the operators cannot keep
# two boxes that are exactly equal (a threshold above 1 would make them choose a box twice).
_APART = 2.0**-22


@dataclass(frozen=True, slots=True)
class Heads:
    """The float32 heads of a detector: `logits` (1, N, classes) and `deltas` (1, N, 4)."""

    logits: Value
    deltas: Value


@dataclass(frozen=True, eq=False, slots=True)
class Settings:
    """NMS settings, and `anchors`, float32 (N, 4): ycenter, xcenter, height, width in 0..1 of the input."""

    anchors: np.ndarray
    nms: NmsSpec


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept detections, best first: `boxes` (1, M, 4) in 0..1 of the input, not clipped; `scores` and
    `classes` (1, M); `count` (1,) is the number of valid rows. Later rows are undefined.
    """

    boxes: Value
    scores: Value
    classes: Value
    count: Value


def centered_anchors(spec: ModelSpec) -> np.ndarray:
    """All anchors, float32 (N, 4): ycenter, xcenter, height, width in 0..1 of the network's input."""
    boxes = anchor_boxes(spec).astype(np.float64) / np.tile(spec.input.size, 2)
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([centers, sizes], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The k highest-scoring pairs of anchor (`rows`, int32) and class (int32), and `logits`; (k,) each."""

    rows: Value
    classes: Value
    logits: Value

    @property
    def count(self) -> int:
        return self.logits.shape[0]


def suppression(editor: GraphEditor, heads: Heads, settings: Settings) -> Kept:
    """Adds the operators; `settings.nms.method` selects soft ("gaussian") or hard suppression."""
    found = (_pairs if settings.nms.max_inputs else _best_classes)(editor, heads, settings)
    boxes = _decoded(editor, heads, found, settings)
    scores = editor.add("LOGISTIC", [found.logits], Result("nms/candidate_scores", (found.count,)))
    apart = _apart(editor, boxes, found.classes) if settings.nms.max_inputs else boxes
    choose = _soft if settings.nms.method == "gaussian" else _hard
    chosen, kept_scores, count = choose(editor, apart, scores, settings)
    most = settings.nms.max_detections
    kept = editor.add("GATHER", [boxes, chosen], Result("nms/kept", (most, 4)))
    classes = editor.add("GATHER", [found.classes, chosen], Result("nms/kept_classes", (most,), "int32"))
    return Kept(
        editor.reshape(kept, "nms/boxes", (1, most, 4)),
        editor.reshape(kept_scores, "nms/scores", (1, most)),
        editor.reshape(_as_float(editor, classes, "nms/float_classes"), "nms/classes", (1, most)),
        editor.reshape(_as_float(editor, count, "nms/float_count"), "nms/count", (1,)),
    )


def _pairs(editor: GraphEditor, heads: Heads, settings: Settings) -> _Candidates:
    """The highest-scoring pairs of anchor and class."""
    _, anchors, classes = heads.logits.shape
    flat = editor.reshape(heads.logits, "nms/all_logits", (anchors * classes,))
    logits, pairs = _strongest(editor, flat, settings.nms.max_inputs)
    number = editor.constant("nms/class_count", np.array(classes, np.int32))
    rows = editor.add("FLOOR_DIV", [pairs, number], Result("nms/rows", pairs.shape, "int32"))
    kinds = editor.add("FLOOR_MOD", [pairs, number], Result("nms/candidate_classes", pairs.shape, "int32"))
    return _Candidates(rows, kinds, logits)


def _best_classes(editor: GraphEditor, heads: Heads, settings: Settings) -> _Candidates:
    """The best class of each of the highest-scoring anchors."""
    _, anchors, classes = heads.logits.shape
    logits = editor.reshape(heads.logits, "nms/all_logits", (anchors, classes))
    axis = editor.constant("nms/class_axis", np.array([1], np.int32))
    best = editor.add("REDUCE_MAX", [logits, axis], Result("nms/best", (anchors,)))
    options = {"outputType": 2}  # the schema's int32
    winners = editor.add("ARG_MAX", [logits, axis], Result("nms/best_classes", (anchors,), "int32"), options)
    strongest, rows = _strongest(editor, best, MAX_CANDIDATES)
    kinds = editor.add("GATHER", [winners, rows], Result("nms/candidate_classes", rows.shape, "int32"))
    return _Candidates(rows, kinds, strongest)


def _strongest(editor: GraphEditor, logits: Value, most: int) -> tuple[Value, Value]:
    """The `most` highest of the logits (n,), best first, and their indices."""
    count = min(most, logits.shape[0])
    number = editor.constant("nms/candidate_count", np.array(count, np.int32))
    results = [Result("nms/candidate_logits", (count,)), Result("nms/strongest", (count,), "int32")]
    values, places = editor.add_all("TOPK_V2", [logits, number], results)
    return values, places


def _decoded(editor: GraphEditor, heads: Heads, found: _Candidates, settings: Settings) -> Value:
    """The candidates' boxes (k, 4) in 0..1 of the input, not clipped."""
    flat = editor.reshape(heads.deltas, "nms/all_deltas", (settings.anchors.shape[0], 4))
    anchors = editor.constant("nms/anchors", settings.anchors)
    all_four, two = (found.count, 4), (found.count, 2)
    deltas = editor.add("GATHER", [flat, found.rows], Result("nms/deltas", all_four))
    own = editor.add("GATHER", [anchors, found.rows], Result("nms/own_anchors", all_four))
    shifts, stretches = _halves(editor, deltas, "nms/shifts", "nms/stretches")
    centers, sizes = _halves(editor, own, "nms/anchor_centers", "nms/anchor_sizes")
    moved = editor.add("MUL", [shifts, sizes], Result("nms/moved", two))
    center = editor.add("ADD", [moved, centers], Result("nms/centers", two))
    factor = editor.add("EXP", [stretches], Result("nms/factors", two))
    size = editor.add("MUL", [factor, sizes], Result("nms/sizes", two))
    half = editor.add("MUL", [size, editor.constant("nms/half", np.float32(0.5))], Result("nms/reach", two))
    low = editor.add("SUB", [center, half], Result("nms/low", two))
    high = editor.add("ADD", [center, half], Result("nms/high", two))
    corners = Result("nms/candidate_boxes", all_four)
    return editor.add("CONCATENATION", [low, high], corners, {"axis": 1})


def _halves(editor: GraphEditor, value: Value, first: str, second: str) -> tuple[Value, Value]:
    """Splits (k, 4) into two tensors (k, 2)."""
    two = (value.shape[0], 2)
    axis = editor.constant(f"{first}/axis", np.array(1, np.int32))
    results = [Result(first, two), Result(second, two)]
    low, high = editor.add_all("SPLIT", [axis, value], results, {"numSplits": 2})
    return low, high


_Chosen = tuple[Value, Value, Value]


def _hard(editor: GraphEditor, boxes: Value, scores: Value, settings: Settings) -> _Chosen:
    """Indices (M,) of the kept candidates, their scores (M,), and their number ()."""
    most = settings.nms.max_detections
    # The operator drops boxes with IoU >= threshold, the evaluator those with IoU > threshold. The limit is
    # at most 1: a box must drop itself, or it would be chosen again.
    limit = min(np.nextafter(np.float32(settings.nms.iou_threshold), np.float32(2)), np.float32(1))
    inputs = [boxes, scores, *_limits(editor, settings, limit)]
    results = [Result("nms/chosen", (most,), "int32"), Result("nms/number", (), "int32")]
    chosen, count = editor.add_all("NON_MAX_SUPPRESSION_V4", inputs, results)
    kept = editor.add("GATHER", [scores, chosen], Result("nms/kept_scores", (most,)))
    return chosen, kept, count


def _soft(editor: GraphEditor, boxes: Value, scores: Value, settings: Settings) -> _Chosen:
    """Like `_hard`, but multiplies the scores of overlapping boxes by exp(-IoU^2 / sigma) instead."""
    most = settings.nms.max_detections
    # The operator computes exp(-IoU^2 / (2 * sigma)).
    sigma = editor.constant("nms/sigma", np.float32(settings.nms.sigma / 2))
    inputs = [boxes, scores, *_limits(editor, settings, np.float32(1)), sigma]
    results = [
        Result("nms/chosen", (most,), "int32"),
        Result("nms/kept_scores", (most,)),
        Result("nms/number", (), "int32"),
    ]
    chosen, kept, count = editor.add_all("NON_MAX_SUPPRESSION_V5", inputs, results)
    return chosen, kept, count


def _limits(editor: GraphEditor, settings: Settings, overlap: np.float32) -> list[Value]:
    nms = settings.nms
    return [
        editor.constant("nms/most", np.array(nms.max_detections, np.int32)),
        editor.constant("nms/iou_threshold", overlap),
        editor.constant("nms/score_threshold", np.float32(nms.score_threshold)),
    ]


def _apart(editor: GraphEditor, boxes: Value, classes: Value) -> Value:
    """The boxes, each shifted by its class index times `_APART`."""
    count = boxes.shape[0]
    numbers = _as_float(editor, classes, "nms/class_numbers")
    step = editor.constant("nms/step", np.float32(_APART))
    moves = editor.add("MUL", [numbers, step], Result("nms/moves", (count,)))
    column = editor.reshape(moves, "nms/move_column", (count, 1))
    return editor.add("ADD", [boxes, column], Result("nms/boxes_apart", (count, 4)))


def _as_float(editor: GraphEditor, value: Value, name: str) -> Value:
    options = {"inDataType": 2}  # the schema's int32 to its float32, 0
    return editor.add("CAST", [value], Result(name, value.shape), options)


def postprocess(editor: GraphEditor, heads: Heads, settings: Settings) -> Kept:
    """Adds the operator, and the sigmoid on the scores that it keeps."""
    most = settings.nms.max_detections
    anchors = editor.constant("nms/anchors", settings.anchors)
    boxes, classes, logits, count = editor.add_custom(
        OPERATOR,
        [heads.deltas, heads.logits, anchors],
        [
            Result("nms/boxes", (1, most, 4)),
            Result("nms/classes", (1, most)),
            Result("nms/logits", (1, most)),
            Result("nms/count", (1,)),
        ],
        _options(settings, heads.logits.shape[-1]),
    )
    scores = editor.add("LOGISTIC", [logits], Result("nms/scores", (1, most)))
    return Kept(boxes, scores, classes, count)


def _options(settings: Settings, classes: int) -> bytes:
    from flatbuffers import flexbuffers

    nms = settings.nms
    options = {
        "max_detections": nms.max_detections,
        "max_classes_per_detection": 1,
        "detections_per_class": nms.max_detections,
        "use_regular_nms": False,
        "nms_score_threshold": _logit(nms.score_threshold),
        "nms_iou_threshold": max(nms.iou_threshold, _SMALLEST_IOU),
        "num_classes": classes,
        **dict.fromkeys(("y_scale", "x_scale", "h_scale", "w_scale"), 1.0),
    }
    return bytes(flexbuffers.Dumps(options))


def _logit(score: float) -> float:
    if score <= 0:
        return _NEVER
    return math.log(score / (1 - score)) if score < 1 else -_NEVER
