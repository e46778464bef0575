"""Where a network looks: Grad-CAM for a class or a box, and occlusion as its check.

Grad-CAM (Selvaraju et al. 2017) weights a feature map with the gradient of a score. Here each position has
its own weight, as in HiResCAM (Draelos and Carin 2020). For a classifier whose head starts with a mean both
are the same, and a box needs it, because only positions near its anchor count. Occlusion (Zeiler and Fergus
2014) hides one square of the image after another and needs no gradient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from effkeras.data.preprocess import fill, place
from effkeras.definitions.definition import ModelSpec
from effkeras.detection.boxes import clip, decode
from effkeras.detection.nms import Decoder
from effkeras.graph.functional import maker
from effkeras.inference.predictor import KerasPredictor
from effkeras.inference.task import label_of
from effkeras.support.errors import EffkerasError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from keras import KerasTensor

_PYRAMID = re.compile(r"(fpn\d+|p\d+|box\w*|class\w*|segment)_")  # layers above the backbone
_BATCH = 16  # images with a hidden square at once


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """A score to explain: entry `index` of the model's scores, (anchor, class) or (class,).

    `box` is float32 (4,): ymin, xmin, ymax, xmax in input pixels; None for a class of the whole image.
    """

    label: int
    name: str
    score: float
    index: tuple[int, ...]
    box: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Explainer:
    """Explains the scores of one model.

    `maps` computes the feature map and the scores from pixels; `heats` the maps (n, H, W) of n images, of the
    score of each at its index (n, 1 or 2).
    """

    spec: ModelSpec
    maps: keras.Model
    heats: Callable[[np.ndarray, np.ndarray], tf.Tensor]

    @classmethod
    def of(cls, predictor: KerasPredictor) -> Explainer:
        """Raises EffkerasError for a model without boxes and classes, or without a feature map."""
        import keras

        spec, model = predictor.spec, predictor.model
        if spec.is_detector and not spec.detects:
            raise EffkerasError(
                f"{spec.name} has masks only; explain takes classifiers and detectors of boxes"
            )
        features = _feature_map(model, spec)
        if spec.is_detector:
            outputs = [features, model.output["class_logits"], model.output["box_deltas"]]
        else:
            outputs = [features, _logits(model)]
        maps = keras.Model(model.input, outputs)
        return cls(spec, maps, _heats_of(maps))

    def targets(self, pixels: np.ndarray, min_score: float, most: int) -> list[Target]:
        """The `most` best boxes of at least `min_score`, or the `most` likeliest classes.

        Args:
            pixels: float32 (H, W, 3), the network's input.
            min_score: of a box; a classifier's classes have none.
            most: how many.
        """
        _, logits, *deltas = (one[0] for one in self.maps.predict_on_batch(pixels[None]))
        if not deltas:
            shares = np.exp(logits - logits.max())
            shares /= shares.sum()
            best = np.argsort(-shares, kind="stable")[:most]
            return [Target(int(i), label_of(self.spec, int(i)), float(shares[i]), (int(i),)) for i in best]
        decoder = Decoder.of(self.spec)
        found = decoder(logits, deltas[0]).above(min_score)
        boxes = clip(decode(deltas[0].astype(np.float32), decoder.anchors), decoder.size)
        return [
            self._box_target(box, float(score), int(label), boxes, logits)
            for box, score, label in list(zip(found.boxes, found.scores, found.classes, strict=True))[:most]
        ]

    def _box_target(
        self, box: np.ndarray, score: float, label: int, boxes: np.ndarray, logits: np.ndarray
    ) -> Target:
        """The target of a detection: of the anchors that predict its box, the one with the best score."""
        distance = np.abs(boxes - box).max(axis=1)
        same = np.flatnonzero(distance <= distance.min() + 1e-3)
        anchor = int(same[logits[same, label].argmax()])
        return Target(label, label_of(self.spec, label), score, (anchor, label), box)

    def grad_cam(self, pixels: np.ndarray, targets: Sequence[Target]) -> list[np.ndarray]:
        """What speaks for each score: float32 (H, W), the largest value 1; all 0 where nothing does."""
        if not targets:
            return []
        images = np.repeat(pixels[None], len(targets), axis=0)  # one each: gradients do not mix
        heats = self.heats(images, np.array([target.index for target in targets], np.int32))
        return [_scaled(heat) for heat in np.asarray(heats)]

    def occlusion(self, pixels: np.ndarray, targets: Sequence[Target], parts: int = 8) -> list[np.ndarray]:
        """What the scores lose where a square is hidden: a float32 (H, W) in 0..1 for each target.

        Squares of the mean colour are 1 / `parts` of the shorter side, and move by half of that.
        """
        side = max(2, min(pixels.shape[:2]) // parts)
        corners = [
            (top, left)
            for top in range(0, pixels.shape[0], side // 2)
            for left in range(0, pixels.shape[1], side // 2)
        ]
        whole = self._probabilities(pixels[None], targets)[0]
        lost, seen = np.zeros((len(targets), *pixels.shape[:2]), np.float32), np.zeros(pixels.shape[:2])
        for start in range(0, len(corners), _BATCH):
            some = corners[start : start + _BATCH]
            hidden = np.repeat(pixels[None], len(some), axis=0)
            for image, (top, left) in zip(hidden, some, strict=True):
                image[top : top + side, left : left + side] = self.spec.input.mean
            for (top, left), left_over in zip(some, self._probabilities(hidden, targets), strict=True):
                square = np.s_[top : top + side, left : left + side]
                lost[(slice(None), *square)] += np.maximum(whole - left_over, 0)[:, None, None]
                seen[square] += 1
        return [_scaled(one / seen) for one in lost]

    def _probabilities(self, pixels: np.ndarray, targets: Sequence[Target]) -> np.ndarray:
        """The targets' scores in 0..1, float (B, targets)."""
        logits = np.asarray(self.maps.predict_on_batch(pixels)[1], np.float64)
        if self.spec.is_detector:
            scores = 1 / (1 + np.exp(-logits))
        else:
            scores = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        chosen = [np.ravel_multi_index(target.index, scores.shape[1:]) for target in targets]
        return scores.reshape(len(scores), -1)[:, chosen]


def network_pixels(image: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """An image, uint8 (h, w, 3), as the network's input, float32 (H, W, 3)."""
    return fill(place(image, spec.input).content, spec.input)


def share_inside(heat: np.ndarray, box: np.ndarray, grow: float = 0.1) -> float:
    """The share of a map's mass that lies in a box (4,) grown by `grow` of its sides; 0 for an empty map."""
    margin = np.array([box[2] - box[0], box[3] - box[1]]) * grow
    ymin, xmin, ymax, xmax = np.concatenate([box[:2] - margin, box[2:] + margin])
    rows, columns = (np.arange(side) + 0.5 for side in heat.shape)
    inside = ((rows > ymin) & (rows < ymax))[:, None] & ((columns > xmin) & (columns < xmax))
    total = float(heat.sum())
    return float(heat[inside].sum()) / total if total else 0.0


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image in grey with a map (H, W) in 0..1 laid over it, uint8 (H, W, 3): yellow, red where most."""
    grey = pixels.mean(axis=-1, keepdims=True) * 0.6 + 80
    colour = np.stack([np.full_like(heat, 255), 230 * (1 - heat), 40 * (1 - heat)], axis=-1)
    opacity = np.clip(heat * 1.2, 0, 0.85)[..., None]
    return np.clip(np.rint(grey + (colour - grey) * opacity), 0, 255).astype(np.uint8)


def _heats_of(maps: keras.Model) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    """See `Explainer`. A score is the logit of its class above the mean of the others.

    What all classes have in common, such as that there is an object at all, does not speak for one of them.
    """
    import tensorflow as tf

    size = maps.input.shape[1:]

    @tf.function(input_signature=[tf.TensorSpec((None, *size)), tf.TensorSpec((None, None), tf.int32)])
    def heats(images: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)  # else nothing is recorded in a network of frozen layers
            features, logits, *_ = maps(images, training=False)
            of_classes = logits if len(logits.shape) == 2 else tf.gather(logits, indices[:, 0], batch_dims=1)
            own = tf.gather(of_classes, indices[:, -1], batch_dims=1)
            others = (tf.reduce_sum(of_classes, axis=-1) - own) / max(1, of_classes.shape[-1] - 1)
            score = tf.reduce_sum(own - others)
        weights = tape.gradient(score, features, unconnected_gradients="zero")
        heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
        return tf.image.resize(heat[..., None], size[:2])[..., 0]

    return heats


def _scaled(heat: np.ndarray) -> np.ndarray:
    most = float(heat.max())
    return (heat / most if most > 0 else heat).astype(np.float32)


def _feature_map(model: keras.Model, spec: ModelSpec) -> KerasTensor:
    """A classifier's last map; of a detector the finest below the pyramid, from which all its levels get."""
    import keras

    if spec.is_detector:
        first = [layer for layer in model.layers if layer.name.startswith("fpn0_")]
        inputs = [tensor for layer in first for tensor in keras.tree.flatten(layer.input)]
        found = [one for one in inputs if not _PYRAMID.match(maker(one).name)]
        found.sort(key=lambda one: int(one.shape[1]))
    else:
        found = [one.output for one in model.layers if len(getattr(one.output, "shape", ())) == 4]
        found = [one for one in found if one.shape[1] > 1]
    if not found:
        raise EffkerasError(f"{spec.name} has no feature map to explain")
    return found[-1]


def _logits(model: keras.Model) -> KerasTensor:
    """A classifier's scores before its last activation."""
    last = model.layers[-1]
    return last.input if last.name == "probabilities" else model.outputs[0]
