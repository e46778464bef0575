"""AutoAugment and RandAugment: random operations of policies that are data (policies.toml)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effkeras.data.augmentations import AUGMENTATIONS, Augmentation
from effkeras.data.augmentations.batches import Batch, uniform
from effkeras.support.tables import Table, read_toml

if TYPE_CHECKING:
    import tensorflow as tf

_RAND = "rand"  # the table of RandAugment
_MOST = 30  # the highest level of RandAugment's
_DRAWS = 4  # random numbers for an operation: whether, the sign, the place

# An operation with its probability and its level from 0 to 10.
Step = tuple[str, float, float]


@functools.cache
def _tables() -> Table:
    return read_toml(Path(__file__).with_name("policies.toml"))


def policy_names() -> tuple[str, ...]:
    """The names of AutoAugment's policies."""
    return tuple(name for name in _tables() if name != _RAND)


def sub_policies(name: str) -> tuple[tuple[Step, ...], ...]:
    """The sub-policies of a policy. Raises KeyError for an unknown one."""
    return tuple(tuple((step[0], *step[1:]) for step in one) for one in _tables()[name]["sub_policies"])


@AUGMENTATIONS.register("auto_augment")
@dataclass(frozen=True)
class AutoAugment(Augmentation):
    """A random sub-policy of a searched policy for each image (Cubuk et al. 2019; Zoph et al. 2019).

    The amount is the policy's name: classification-v0, which the EfficientNets were trained with, or
    detection-v0 to detection-v3. Boxes and label maps move with the pixels.
    """

    rank = 206
    per_image = True

    amount: str = ""

    def problem(self) -> str:
        """See `Augmentation.problem`."""
        is_known = not self.amount or self.amount in policy_names()
        return "" if is_known else f"must be one of {', '.join(policy_names())}"

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        import tensorflow as tf

        policies = sub_policies(self.amount)
        chosen = uniform(seeds, 1)[:, 0]
        which = tf.minimum(tf.cast(chosen * len(policies), tf.int32), len(policies) - 1)
        most = max(map(len, policies))
        names = sorted({name for one in policies for name, _, _ in one})
        # Shorter sub-policies are filled up by a step that never happens.
        filled = [(*one, *[(names[0], 0.0, 0.0)] * (most - len(one))) for one in policies]
        table = [[(names.index(name), chance, level) for name, chance, level in one] for one in filled]
        steps = tf.gather(tf.constant(table, tf.float32), which)
        return _applied(batch, seeds, steps, names, _tables()[self.amount])


@AUGMENTATIONS.register("rand_augment")
@dataclass(frozen=True)
class RandAugment(Augmentation):
    """Random operations for each image (Cubuk et al. 2020): how many, and their level.

    Levels go on beyond the 10 of AutoAugment, as the authors of EfficientNetV2 use them for large models.
    Boxes and label maps move with the pixels. Keras's RandAugment draws the operations once for a whole
    batch, from a seed with a state, and computes all of them.
    """

    rank = 207
    per_image = True

    amount: tuple[int, float] = (0, 0.0)

    def problem(self) -> str:
        """See `Augmentation.problem`."""
        count, level = self.amount
        return (
            ""
            if count >= 0 and 0 <= level <= _MOST
            else f"must be a number of operations and a level from 0 to {_MOST}"
        )

    def mix(self, batch: Batch, seeds: tf.Tensor) -> Batch:
        """See `Augmentation.mix`."""
        import tensorflow as tf

        count, level = self.amount
        if not count:
            return batch
        names = _tables()[_RAND]["operations"]
        which = tf.minimum(tf.floor(uniform(seeds, count) * len(names)), len(names) - 1.0)
        steps = tf.stack([which, tf.ones_like(which), tf.fill(tf.shape(which), level)], axis=-1)
        return _applied(batch, seeds, steps, names, _tables()[_RAND])


def _applied(batch: Batch, seeds: tf.Tensor, steps: tf.Tensor, names: Sequence[str], table: Table) -> Batch:
    """The batch after `steps`, float32 (B, n, 3): the number of each operation, its chance and level."""
    import tensorflow as tf

    from effkeras.data.augmentations.policy.operations import Draw, Limits, One, draws_boxes_itself, operation

    limits = {key: value for key, value in table.items() if isinstance(value, float)}
    sides = tuple(batch.pixels.shape[1:3])
    operations = [operation(name, Limits(**limits), sides) for name in names]
    own_chance = tf.constant([draws_boxes_itself(name) for name in names])
    count = steps.shape[1]

    def one_image(of: tuple[Any, ...]) -> Any:
        own_steps, seed = of[4:]
        draws = tf.random.stateless_uniform(
            (count, _DRAWS), tf.random.experimental.stateless_fold_in(seed, 1)
        )

        def step(number: tf.Tensor, one: Any) -> tuple[tf.Tensor, Any]:
            which = tf.cast(own_steps[number, 0], tf.int32)
            own = tf.random.experimental.stateless_fold_in(seed, 2 + number)
            sign = tf.where(draws[number, 1] < 0.5, -1.0, 1.0)
            draw = Draw(own_steps[number, 2], own_steps[number, 1], sign, draws[number, 2:], own)
            happens = (draws[number, 0] < draw.probability) | own_chance[which]
            after = _perhaps(one, draw, happens, which, operations)
            kept = [tf.ensure_shape(new, old.shape) for new, old in zip(after, of[:4], strict=True)]
            return number + 1, One(*kept)

        # A loop, so that TensorFlow traces the operations once and not for each step.
        return tuple(tf.while_loop(lambda number, _: number < count, step, (tf.constant(0), One(*of[:4])))[1])

    pixels, boxes, visible, labels = tf.map_fn(
        one_image,
        (batch.pixels, batch.boxes, batch.visible, batch.labels, steps, seeds),
        fn_output_signature=(tf.float32, tf.float32, tf.float32, tf.uint8),
    )
    return batch._replace(pixels=pixels, boxes=boxes, visible=visible, labels=labels)


def _perhaps(one: Any, draw: Any, happens: tf.Tensor, which: tf.Tensor, operations: Sequence[Any]) -> Any:
    """The image after operation number `which`, if it happens."""
    import tensorflow as tf

    return tf.cond(
        happens,
        lambda: tf.switch_case(which, [lambda run=run: run(one, draw) for run in operations]),
        lambda: one,
    )
