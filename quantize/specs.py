"""The options of each step of a recipe: frozen dataclasses that TOML recipes are read into.

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
# The precisions of layers that mixed precision keeps out of int8, cheapest first.
Precision = Literal["int8", "w8a16", "float32"]
# The words in a recipe's name that make `PtqSpec.sets_ranges` true.
RANGE_WORDS = "equalize, unbias, minmax, percentile and mse"

# The length of a step's training that a recipe does not state: so many epochs, and at least so many steps.
EPOCHS, LEAST_STEPS = 3, 600


@dataclass(frozen=True, slots=True)
class FriendlySpec:
    """Operations that lose accuracy in int8, and their replacements.

    `activation` replaces swish; `squeeze` "remove" removes squeeze-and-excitation, "hard" only replaces the
    sigmoid of its gates by a hard sigmoid.
    """

    activation: Literal["keep", "hard_swish", "relu6"] = "relu6"
    squeeze: Literal["keep", "hard", "remove"] = "keep"


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """Channel pruning.

    `keep` is the remaining share of the cost: 0.5 halves it. `cost` is multiply-adds or the latency of the
    float artifact on this machine. Widths are multiples of `divisor` and at least `smallest`. Pruning takes
    `rounds` rounds, with training after each.
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

    `sparsity` is the final share of zeros. `pattern` "2:4" (any n:m) keeps n of every m weights along the
    input channels and ignores `sparsity`; "1x4" (any rows x columns) removes whole blocks, ranked by the
    average or the largest magnitude in them (`pooling`).
    `scope` "layer" has a threshold for each layer, "global" one for all: then layers that need their weights
    keep more of them, and far less accuracy is lost. "auto" is global, except where only layers can be
    ranked (n:m, tensorflow-model-optimization).
    `begin` and `end` are shares of the training's steps; masks are updated every `every` steps. `layers`
    selects all convolutions and dense layers, or 1x1 convolutions only. `skip` are regular expressions for
    layer names; "stem" and "predictors" stand for the first and the last layers of any network.
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
    """Weight clustering: at most `clusters` distinct values per kernel."""

    clusters: int = 16
    start: Literal["linear", "density", "kmeans++"] = "linear"
    depthwise: bool = False
    skip: tuple[str, ...] = ("stem", "predictors")


@dataclass(frozen=True, slots=True)
class QatSpec:
    """Quantization-aware training with batch normalisation folded and frozen.

    `ranges` of activations are moving averages of the extremes ("ema"; the ranges of the model's outputs
    never shrink), or learned by gradient. `keep_zeros` and `keep_clusters` preserve pruning and clustering:
    zero weights stay zero, equal weights stay equal. `skip` are regular expressions for layers whose kernels
    stay in float.
    """

    ranges: Literal["ema", "learned"] = "ema"
    momentum: float = 0.999
    keep_zeros: bool = True
    keep_clusters: bool = False
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PtqSpec:
    """Post-training quantization: the range method, and corrections.

    `ranges` "auto" clips the outermost values if activations are int8 and the backend supports it, because a
    wide range then costs more accuracy than a few clipped values: a classifier's by percentile, a detector's
    by mse, which keeps the strong values of small objects. Otherwise ranges hold all values.
    `percentile` is the share of values in a range of that method. `equalize` equalizes the ranges of
    neighbouring layers (Nagel et al. 2019); `correct_bias` removes the mean error of each channel.
    `precision` is the precision of layers that a budget keeps out of int8. `backend` is the tool that
    quantizes; `errors` also measures the error of every layer.
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
        """Whether an option changes how ranges are found, or corrects the model or the biases."""
        return self.equalize or self.correct_bias or self.ranges != "auto"


@dataclass(frozen=True, slots=True)
class DistillSpec:
    """Distillation: training towards the outputs of the uncompressed model.

    `weight` is the teacher's share of the loss; `temperature` softens a classifier's probabilities
    (Hinton et al. 2015). A detector's boxes are compared where the labels or the teacher see an object.
    """

    weight: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True, slots=True)
class TuneSpec:
    """The training of a step, from trained weights at a small learning rate, until val stops improving.

    `epochs` is the most that it takes; None takes 3, or as many as LEAST_STEPS are on a small set.
    """

    epochs: int | None = None
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 1e-5
    ema: float = 0.99
    seed: int = 0

    def settings(self, like: TrainSettings | None = None, images: int = 0) -> TrainSettings:
        """The training settings for a number of training images.

        All other options, such as augmentation, are those of `like`.
        """
        import dataclasses

        epoch, epochs = max(1, images // self.batch), self.epochs or EPOCHS
        steps = max(epochs * epoch, LEAST_STEPS)
        warmup = min(0.2, epochs / 4)
        return dataclasses.replace(
            like or TrainSettings(),
            epochs=self.epochs,
            steps=None if self.epochs else steps,
            minutes=None,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            ema=self.ema,
            seed=self.seed,
            warmup_epochs=warmup if self.epochs else warmup * steps / (epochs * epoch),
            early_stop=False,
            patience=None,
        )
