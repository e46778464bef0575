"""Training batches as a pure function of the step number.

The images of a step, and their augmentation, depend only on the seed and the step: a resumed training
continues with exactly the batches of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from effkeras.data.augment import augment, filled, without_boxes
from effkeras.data.augmentations import AugmentSpec
from effkeras.data.augmentations.batches import Batch
from effkeras.data.masks import IGNORED
from effkeras.data.store import PADDING, ImageStore, Sample, padded
from effkeras.definitions.definition import InputSpec, ModelSpec
from effkeras.detection.boxes import anchor_boxes, level_sizes
from effkeras.detection.matching import Matcher, Truth
from effkeras.graph.heads import MASK_STRIDE, mask_size


@dataclass(frozen=True, slots=True)
class Part:
    """The part of each batch that one process of several takes: `rows` images from number `first` on.

    It comes in pieces of `piece` images, one for each of the devices of the process.
    """

    first: int
    rows: int
    piece: int


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """Images per step, the seed, and the augmentation (None for none).

    `repeats` says how often each image is drawn, relative to the others; () for all alike. `part` is the part
    of each batch to make; None for all of it.
    """

    size: int
    seed: int
    augment: AugmentSpec | None
    repeats: tuple[float, ...] = ()
    part: Part | None = None


def training_batches(store: ImageStore, spec: ModelSpec, batches: BatchSpec, steps: range) -> tf.data.Dataset:
    """(pixels, targets) for each step of `steps`.

    Pixels are float32 (B, H, W, 3). A detector's targets are those of `Matcher`, and for masks
    `mask_logits`, int32 (B, h, w): each pixel's class, 255 for pixels to ignore; a classifier's are
    int32 (B,), or float32 (B, C) where augmentations mix classes. Each epoch visits every image once, in a
    different order. With `repeats`, it visits as many images, some several times and some not at all.

    With `part`, each batch is a piece of that part: together they are the same images, with the same changes.
    Where an augmentation mixes images of a batch, each process has to make all of it.
    """
    part = batches.part or Part(0, batches.size, batches.size)
    to_targets = targets_of(spec, batches)
    read, chosen = _reader(store, spec), _order(len(store), batches)

    def sample(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return *read(chosen(index)), _seed(index, batches.seed)

    is_mixed = batches.augment is not None and batches.augment.mixes
    made = Part(0, batches.size, batches.size) if is_mixed else part
    indices = tf.data.Dataset.range(steps.start * made.rows, steps.stop * made.rows)
    if made.rows < batches.size:
        indices = indices.map(lambda n: n // made.rows * batches.size + made.first + n % made.rows)
    workers = tf.data.AUTOTUNE
    data = (
        indices.map(without_autograph(sample), num_parallel_calls=workers, deterministic=True)
        .padded_batch(made.piece, padding_values=(*PADDING, 0), drop_remainder=True)
        .map(without_autograph(to_targets), num_parallel_calls=workers, deterministic=True)
    )
    # Batches take the cores, not the operations within one: none waits for another thread, and how many there
    # are cannot change how a sum is rounded.
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return (data if made == part else data.flat_map(_pieces(part))).prefetch(2).with_options(options)


def _pieces(part: Part) -> Callable[..., tf.data.Dataset]:
    """The function that cuts a part out of a whole batch, into pieces."""

    def cut(rows: tf.Tensor) -> tf.Tensor:
        chosen = rows[part.first : part.first + part.rows]
        return tf.reshape(chosen, (part.rows // part.piece, part.piece, *rows.shape[1:]))

    return without_autograph(
        lambda *batch: tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(cut, batch))
    )


def without_autograph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Exempts a function for `Dataset.map` from AutoGraph's conversion, which takes seconds."""
    return tf.autograph.experimental.do_not_convert(function)  # type: ignore[no-any-return]


def targets_of(spec: ModelSpec, batches: BatchSpec) -> Callable[..., tuple[Any, Any]]:
    """The function that turns samples and seeds into (pixels, targets), as in `training_batches`.

    Its arguments are the fields of `effkeras.data.store.Sample`, each batched, and int32 seeds (B, 2).
    """
    return _detector_targets(spec, batches) if spec.is_detector else _classifier_targets(spec, batches)


def _order(count: int, batches: BatchSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function that gives the image, of `count`, for an index over all steps.

    With repeats it draws systematically: images take stretches of a line as long as their repeats, and an
    epoch takes the images at equal distances. So it draws each one as often as expected, rounded up or down.
    """
    if not batches.repeats:
        return lambda index: _shuffled(index, count, batches.seed)
    ends = np.cumsum(np.array(batches.repeats, np.float64))
    ends *= count / ends[-1]

    def drawn(index: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.constant(batches.seed, tf.int64), index // count])
        start = tf.random.stateless_uniform((1,), key, dtype=tf.float64)
        places = start + tf.cast(_shuffled(index, count, batches.seed), tf.float64)
        return tf.minimum(tf.searchsorted(tf.constant(ends), places, "right", tf.int64)[0], count - 1)

    return drawn


def _shuffled(index: tf.Tensor, count: int, seed: int) -> tf.Tensor:
    epoch, position = index // count, index % count
    key = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.experimental.index_shuffle(position, tf.cast(key, tf.uint32), count - 1)


def _seed(index: tf.Tensor, seed: int) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int32), tf.cast(index % (2**31 - 1), tf.int32)])


def _reader(store: ImageStore, spec: ModelSpec) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    def load(index: np.ndarray) -> tuple[np.ndarray, ...]:
        sample = store[int(index)]
        return sample.pixels, sample.content, sample.boxes, sample.classes, sample.crowd, sample.labels

    labels = spec.input.size if spec.segments else (0, 0)
    shapes = ((*spec.input.size, 3), (2,), (None, 4), (None,), (None,), labels)
    types = (tf.uint8, tf.int32, tf.float32, tf.int32, tf.bool, tf.uint8)

    def read(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        tensors = tf.numpy_function(load, [index], types)
        return tuple(tf.ensure_shape(t, shape) for t, shape in zip(tensors, shapes, strict=True))

    return read


def training_images(
    samples: Sequence[Sample], spec: InputSpec, augment_by: AugmentSpec, seed: int, classes: int | None
) -> Batch:
    """Samples as a training with this seed sees them in its first epoch, if it visits them in this order.

    `classes` is the number of a classifier's classes, None for a detector.
    """
    pixels, content, *truths = map(tf.constant, padded(samples))
    seeds = tf.map_fn(lambda index: _seed(index, seed), tf.range(len(samples)))
    batch = Batch(pixels, *truths)
    if classes is not None:
        batch = without_boxes(pixels, tf.one_hot(batch.classes[:, 0], classes))
    return augment(batch, seeds, augment_by, spec.mean, content)


def _detector_targets(spec: ModelSpec, batches: BatchSpec) -> Callable[..., tuple[Any, Any]]:
    match = _matched(spec) if spec.detects else None

    def make(pixels: Any, content: Any, *rest: Any) -> tuple[Any, Any]:
        *truths, seeds = rest
        batch = Batch(pixels, *truths)
        if batches.augment is None:
            batch = batch._replace(pixels=filled(pixels, content, spec.input.mean))
        else:
            batch = augment(batch, seeds, batches.augment, spec.input.mean, content)
        targets = match(batch) if match else {}
        return batch.pixels, targets | ({"mask_logits": mask_targets(batch.labels)} if spec.segments else {})

    return make


def _matched(spec: ModelSpec) -> Callable[[Batch], dict[str, tf.Tensor]]:
    matcher = Matcher.of(anchor_boxes(spec), level_sizes(spec))
    return lambda batch: matcher(Truth(batch.boxes, batch.classes, batch.crowd))


def mask_targets(labels: tf.Tensor) -> tf.Tensor:
    """The class at the centre of each mask pixel: uint8 (B, H, W) to int32 (B, h, w).

    The mask may extend beyond the image; pixels there are ignored in training.
    """
    height, width = labels.shape[1:]
    rows, columns = mask_size((height, width))
    beyond = [[0, 0], [0, rows * MASK_STRIDE - height], [0, columns * MASK_STRIDE - width]]
    padded = tf.pad(labels, beyond, constant_values=IGNORED)
    return tf.cast(padded[:, MASK_STRIDE // 2 :: MASK_STRIDE, MASK_STRIDE // 2 :: MASK_STRIDE], tf.int32)


def _classifier_targets(spec: ModelSpec, batches: BatchSpec) -> Callable[..., tuple[Any, Any]]:
    def make(pixels: Any, content: Any, *rest: Any) -> tuple[Any, Any]:
        _, classes, _, _, seeds = rest
        if batches.augment is None:
            return filled(pixels, content, spec.input.mean), classes[:, 0]
        batch = without_boxes(pixels, tf.one_hot(classes[:, 0], spec.classes))
        batch = augment(batch, seeds, batches.augment, spec.input.mean, content)
        return batch.pixels, batch.targets if batches.augment.softens else classes[:, 0]

    return make
