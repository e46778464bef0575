"""One-shot evaluation: all networks of a space are trained as one, and a candidate is a path through it.

Single path one-shot (Guo et al. 2020, arXiv:1904.00420): every step draws a path uniformly and trains its
weights alone. Unlike there, choices do not have branches of their own: a path takes the first channels and
the middle of the kernels of the largest weights (as once-for-all does), so that every step trains every
place. Before a path is measured its batch normalisation gets its own statistics: those of other paths make
any path look like chance.

How far the order of paths is that of networks trained alone has to be measured: see
`effkeras.search.rank_bench`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from effkeras.console import track
from effkeras.data.classes import spec_for_data
from effkeras.data.pipeline import BatchSpec, targets_of
from effkeras.definition import ModelSpec
from effkeras.errors import EffkerasError
from effkeras.files import make_folder, write_text
from effkeras.graph.backbone import classifier
from effkeras.search import genomes
from effkeras.search.evaluation.costs import cost_of
from effkeras.search.evaluation.pictures import Pictures, Samples
from effkeras.search.evaluation.protocol import Candidate, Outcome, Report
from effkeras.search.evaluation.settings import EvaluationSettings
from effkeras.search.evaluation.shared_net import SharedNet, Statistics
from effkeras.search.evaluation.training import accuracy
from effkeras.search.evaluation.weight_bank import WeightBank, shared_names
from effkeras.search.genomes import Genome
from effkeras.search.spaces.protocol import ModelSpace
from effkeras.search.store.locks import locked
from effkeras.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from effkeras.training.compiling import schedule_of
from effkeras.training.flat_adamw import FlatAdamW

# Networks that the shared weights are made large enough for, when the space has more.
_DRAWN = 1000
# Batches that a path's statistics are taken from.
_STATISTICS = 8


class Supernet:
    """The shared weights of a space, and their training.

    Everything random follows from the seed and the number of the step, so that an interrupted training goes
    on as if it had not been.
    """

    def __init__(self, space: ModelSpace, pictures: Pictures, settings: EvaluationSettings, seed: int = 0):
        self._space, self._pictures, self._settings, self._seed = space, pictures, settings, seed
        keras.utils.set_random_seed(seed)
        self.bank = WeightBank(self.spec(genome) for genome in _some(space))
        self.epochs = 0
        self._steps = max(1, self._count() // settings.batch)
        training = settings.training(seed, settings.supernet_epochs)
        schedule = schedule_of(training, self._steps)
        self._optimizer = FlatAdamW(schedule, training.weight_decay, training.clip_norm, lazy=True)
        self._optimizer.build(self.bank.variables)
        self._apply = tf.function(self._optimizer.apply, autograph=False)

    def spec(self, genome: Genome) -> ModelSpec:
        """The definition of a path, with the classes of the data."""
        return spec_for_data(self._space.spec(genome), self._pictures.splits.train)

    def state(self) -> list[tf.Variable]:
        """All that the rest of the training depends on, but the number of finished epochs."""
        return [*self.bank.variables, *(one.value for one in self._optimizer.variables)]

    def epoch(self) -> float:
        """Trains one more epoch, a path for each step; returns the mean loss.

        Raises EffkerasError when the training diverged.
        """
        random = np.random.default_rng([self._seed, self.epochs])
        tf.random.set_seed(int(random.integers(2**31)))
        order = random.permutation(self._count())
        losses = [
            self._step(genomes.sample(self._space, random), chosen)
            for chosen in np.array_split(order, self._steps)
        ]
        mean = float(np.mean(losses))
        if not np.isfinite(mean):
            raise EffkerasError(f"the supernet diverged in epoch {self.epochs + 1}: its loss is {mean}")
        self.epochs += 1
        return mean

    def predictor(self, genome: Genome) -> PathPredictor:
        """A path that is ready to be measured, with statistics of its own."""
        spec = self.spec(genome)
        samples = self._pictures.training(spec)
        order = np.random.default_rng(0).permutation(len(samples[0]))
        size = min(self._settings.batch, len(order))
        batches = [order[i * size : (i + 1) * size] for i in range(min(_STATISTICS, len(order) // size))]
        found = [self._statistics(spec, samples, chosen) for chosen in batches]
        return PathPredictor(self.bank, spec, _mean(found))

    def _step(self, genome: Genome, chosen: np.ndarray) -> float:
        spec = self.spec(genome)
        pixels, labels = _batch(spec, self._pictures.training(spec), chosen, self._settings, self._seed)
        net = SharedNet(self.bank, shared_names(spec), training=True)
        variables = self.bank.variables
        with tf.GradientTape() as tape:
            logits = _logits(net, spec, pixels)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self._apply([tf.convert_to_tensor(gradient) for gradient in gradients])
        return float(loss)

    def _statistics(self, spec: ModelSpec, samples: Samples, chosen: np.ndarray) -> Statistics:
        net = SharedNet(self.bank, shared_names(spec))
        pixels, _ = _batch(spec, samples, chosen, None, self._seed)
        _logits(net, spec, pixels)
        return net.seen

    def _count(self) -> int:
        return len(self._pictures.training(spec_for_data(self._space.base, self._pictures.splits.train))[0])


@dataclass(frozen=True, eq=False, slots=True)
class PathPredictor:
    """One path through a supernet, for `effkeras.evaluate`."""

    bank: WeightBank
    spec: ModelSpec
    statistics: Statistics

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """See `effkeras.predictor.Predictor`."""
        net = SharedNet(self.bank, shared_names(self.spec), statistics=self.statistics)
        logits = _logits(net, self.spec, tf.constant(pixels))
        return {"probabilities": tf.nn.softmax(logits).numpy()}


class SupernetPaths:
    """Evaluates candidates as paths; trains the supernet at the first, or takes the one in the folder.

    Of several workers one trains and the others wait for it. Without a folder each has its own.
    """

    def __init__(
        self, space: ModelSpace, pictures: Pictures, settings: EvaluationSettings, folder: Path | None = None
    ):
        self._space, self._pictures, self._settings, self._folder = space, pictures, settings, folder
        self._supernet: Supernet | None = None

    def __call__(self, candidate: Candidate, report: Report) -> Outcome:
        """Measures one path. Raises EffkerasError for one that is no path."""
        supernet = self.trained()
        found = accuracy(supernet.predictor(candidate.genome), self._pictures)
        report(1, found)
        return Outcome(found, {"supernet_epochs": float(supernet.epochs)})

    def costs(self, candidate: Candidate) -> Mapping[str, float]:
        """What a candidate costs; the supernet is not needed for it."""
        spec = spec_for_data(self._space.spec(candidate.genome), self._pictures.splits.train)
        return cost_of(spec, self._settings.costs, self._settings.artifact)

    def trained(self) -> Supernet:
        """The supernet, trained to the end, from wherever an earlier process stopped.

        Raises EffkerasError when the folder's is of another space or settings.
        """
        if self._supernet is None:
            with self._alone():
                supernet = Supernet(self._space, self._pictures, self._settings)
                _train(supernet, self._settings.supernet_epochs, self._keeper())
            self._supernet = supernet
        return self._supernet

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One process at a time; the system lets go of it when a process is killed."""
        if self._folder is None:
            return contextlib.nullcontext()
        return locked(make_folder(self._folder) / "supernet.lock")

    def _keeper(self) -> Keeper | None:
        return Keeper(self._folder, _identity(self._space, self._settings)) if self._folder else None


@dataclass(frozen=True, slots=True)
class Keeper:
    """A supernet's files: its state after the last finished epoch, and what it is of."""

    folder: Path
    identity: str

    def restore(self, supernet: Supernet) -> None:
        """Takes up what is there, if anything. Raises EffkerasError when it is another supernet's."""
        about, state = self.folder / "supernet.txt", self.folder / "supernet.npz"
        if not (about.is_file() and state.is_file()):
            return
        if about.read_text() != self.identity:
            raise EffkerasError(
                f"{state} is of another space or other settings; delete it, or give another --out"
            )
        supernet.epochs = load_checkpoint(state, supernet.state()).epoch

    def save(self, supernet: Supernet) -> None:
        """Keeps the state."""
        write_text(self.folder / "supernet.txt", self.identity)
        save_checkpoint(self.folder / "supernet.npz", supernet.state(), Progress(supernet.epochs))


def _some(space: ModelSpace) -> Iterator[Genome]:
    """All networks of a small space, many of a large one."""
    if genomes.raw_count(space) <= _DRAWN:
        yield from genomes.all_genomes(space)
    else:
        random = np.random.default_rng(0)
        yield from (genomes.sample(space, random) for _ in range(_DRAWN))


def _train(supernet: Supernet, epochs: int, keeper: Keeper | None) -> None:
    if keeper is not None:
        keeper.restore(supernet)
    for _ in track(range(supernet.epochs, epochs), "training the supernet"):
        supernet.epoch()
        if keeper is not None:
            keeper.save(supernet)


def _identity(space: ModelSpace, settings: EvaluationSettings) -> str:
    numbers = (settings.supernet_epochs, settings.batch, settings.learning_rate, settings.weight_decay)
    return f"{space.digest} {numbers} {settings.augment} {settings.train_pictures}\n"


def _batch(
    spec: ModelSpec, samples: Samples, chosen: np.ndarray, settings: EvaluationSettings | None, seed: int
) -> tuple[tf.Tensor, Any]:
    augment = settings.augment if settings else None
    seeds = np.random.default_rng([seed, int(chosen[0])]).integers(0, 2**31 - 1, (len(chosen), 2))
    make = targets_of(spec, BatchSpec(len(chosen), seed, augment))
    return make(*(tf.gather(values, chosen) for values in samples), tf.constant(seeds, tf.int32))


def _logits(net: SharedNet, spec: ModelSpec, pixels: tf.Tensor) -> tf.Tensor:
    mean, std = (tf.constant(values, tf.float32) for values in (spec.input.mean, spec.input.std))
    return classifier(net, (pixels - mean) / std, spec)


def _mean(found: Sequence[Statistics]) -> Statistics:
    def of(name: str, part: int) -> tf.Tensor:
        return tf.reduce_mean(tf.stack([one[name][part] for one in found]), axis=0)

    return {name: (of(name, 0), of(name, 1)) for name in found[0]}
