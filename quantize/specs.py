"""The options of each step of a recipe: frozen records that recipes in TOML are read into.

Nothing here imports TensorFlow or Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from effkeras.training.settings import TrainSettings

Scope = Literal["layer", "global"]
Importance = Literal["bn-scale", "l1", "taylor"]
RangeMethod = Literal["minmax", "percentile", "mse"]
RangeChoice = Literal["auto", "minmax", "percentile", "mse"]
Backend = Literal["ai-edge-quantizer", "tensorflow"]
# What may stay at higher precision than int8, cheapest first.
Precision = Literal["int8", "w8a16", "float32"]
# The words of recipes' names that `PtqSpec.sets_ranges` is about.
RANGE_WORDS = "equalize, unbias, minmax, percentile and mse"


@dataclass(frozen=True, slots=True)
class FriendlySpec:
    """Operations that lose much in 8 bits, and what takes their place.

    `activation` replaces swish; `squeeze` "remove" takes squeeze-and-excitation out, "hard" only gives its
    gates a hard sigmoid.
    """

    activation: Literal["keep", "hard_swish", "relu6"] = "relu6"
    squeeze: Literal["keep", "hard", "remove"] = "keep"


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """Channel pruning.

    `keep` is the share of the cost that is left: 0.5 halves it. `cost` is multiply-adds or the latency of the
    float artifact on this machine. Widths are multiples of `divisor` and at least `smallest`; the pruning is
    done in `rounds`, with training after each.
    """

    keep: float = 0.5
    cost: Literal["macs", "latency"] = "macs"
    importance: Importance = "bn-scale"
    divisor: int = 8
    smallest: int = 8
    rounds: int = 1
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PruneSpec:
    """Magnitude pruning: which weights become zero, and when.

    `sparsity` is the share of zeros at the end. `pattern` "2:4" (any n:m) leaves n of every m weights along
    the input channels, and `sparsity` then does not count; "1x4" (any rows x columns) removes whole blocks,
    each ranked by the average or the largest magnitude in it (`pooling`).
    `scope` says whether the threshold is one for each layer or one for all: then layers that need their
    weights keep more of them, and far less accuracy is lost. "auto" is global, but where only layers can be
    ranked (n:m, tensorflow-model-optimization).
    `begin` and `end` are shares of the training's steps; masks change every `every` steps. `layers` names
    what is pruned: all convolutions and dense layers, or 1x1 convolutions only. `skip` are regular
    expressions of layer names; "stem" and "predictors" stand for those of any network here.
    """

    sparsity: float = 0.5
    start: float = 0.0
    schedule: Literal["polynomial", "constant"] = "polynomial"
    power: float = 3.0
    begin: float = 0.0
    end: float = 0.7
    every: int = 20
    pattern: str = "unstructured"
    pooling: Literal["average", "max"] = "average"
    scope: Literal["auto", "layer", "global"] = "auto"
    layers: Literal["all", "1x1"] = "all"
    depthwise: bool = False
    skip: tuple[str, ...] = ("stem", "predictors")


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Weight clustering: at most `clusters` different values per layer."""

    clusters: int = 16
    start: Literal["linear", "density", "kmeans++"] = "linear"
    depthwise: bool = False
    skip: tuple[str, ...] = ("stem", "predictors")


@dataclass(frozen=True, slots=True)
class QatSpec:
    """Quantization-aware training with batch norm folded and frozen.

    `ranges` of activations are moving averages of the extremes, or learned by gradient; averages never narrow
    those of what the model puts out. `keep_zeros` and `keep_clusters` preserve what pruning and clustering
    made: weights that are zero stay so, and weights that are equal stay equal. `skip` are regular expressions
    of layers whose kernels stay in float.
    """

    ranges: Literal["ema", "learned"] = "ema"
    momentum: float = 0.999
    keep_zeros: bool = True
    keep_clusters: bool = False
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PtqSpec:
    """How ranges are found after training, and what is corrected before.

    `ranges` "auto" leaves out the outermost values where activations have 8 bits and the backend can, because
    there a wide range costs more than a few clipped values; elsewhere ranges hold all values. `percentile` is
    the share of values that a range of that method holds. `equalize` evens out the ranges of neighbouring
    layers (Nagel et al. 2019); `correct_bias` removes the mean error of each channel. `precision` is
    what layers keep that a budget does not allow to become int8. `backend` is the tool that quantizes;
    `errors` also measures the error of every layer.
    """

    ranges: RangeChoice = "auto"
    percentile: float = 0.9999
    equalize: bool = False
    correct_bias: bool = False
    precision: Precision = "float32"
    backend: Backend = "ai-edge-quantizer"
    errors: bool = False

    @property
    def sets_ranges(self) -> bool:
        """Whether it sets how ranges are found, or corrects something that they follow from."""
        return self.equalize or self.correct_bias or self.ranges != "auto"


@dataclass(frozen=True, slots=True)
class DistillSpec:
    """Training towards the outputs of the model that compression started from.

    `weight` is the teacher's share of the loss; `temperature` softens a classifier's probabilities
    (Hinton et al. 2015). A detector's class logits are matched where teacher or labels see something.
    """

    weight: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True, slots=True)
class TuneSpec:
    """The training of a step: few epochs at a small rate, from weights that are good already."""

    epochs: int = 3
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 1e-5
    ema: float = 0.99
    seed: int = 0

    def settings(self, like: TrainSettings | None = None) -> TrainSettings:
        """Training settings; augmentation and the rest are those the model was trained with."""
        import dataclasses

        return dataclasses.replace(
            like or TrainSettings(),
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            ema=self.ema,
            seed=self.seed,
            warmup_epochs=min(0.2, self.epochs / 4),
            early_stop=False,
        )
