"""NASNet's controller: an LSTM that chooses a genome gene by gene (Zoph et al., arXiv:1707.07012, section 3).

Each step reads the embedding of the previous choice and draws the next choice from its own softmax. The
controller is NumPy with explicit gradients, so that every worker of a search replays the same float64
arithmetic without TensorFlow. Gates are in Keras' order: input, forget, cell, output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from effkeras.search.genomes import Space
from effkeras.search.strategies.policies import Arrays, Drawn, draw_choices, mask
from effkeras.search.strategies.policy_search import Learning, PolicySearch
from effkeras.search.strategies.strategy import register
from effkeras.support.errors import EffkerasError

# Initial weights are uniform in -_START.._START (arXiv:1707.07012, appendix A).
_START = 0.1


@dataclass(frozen=True, slots=True)
class State:
    """The state of the LSTM between steps, each array (batch, units)."""

    hidden: np.ndarray
    cell: np.ndarray


@dataclass(frozen=True, slots=True)
class Step:
    """One step as recorded for the backward pass: inputs, gates, and the states before and after."""

    inputs: np.ndarray
    before: State
    gates: tuple[np.ndarray, ...]
    after: State


@dataclass(frozen=True, slots=True)
class Passed:
    """A forward pass: its choices (batch, genes) and its steps."""

    choices: np.ndarray
    steps: tuple[Step, ...]


class Lstm:
    """A policy whose choice for a gene depends on all earlier choices.

    `parameters`: "start" (units), "embedding" (genes, choices, units), "kernel" and "recurrent" (units, 4
    units), "bias" (4 units), "head" (genes, units, choices) and "head_bias" (genes, choices).
    """

    def __init__(self, sizes: Sequence[int], units: int, random: np.random.Generator) -> None:
        self._mask = mask(sizes)
        genes, most = self._mask.shape
        shapes = {
            "start": (units,),
            "embedding": (genes, most, units),
            "kernel": (units, 4 * units),
            "recurrent": (units, 4 * units),
            "head": (genes, units, most),
        }
        self.parameters: Arrays = {
            name: random.uniform(-_START, _START, shape) for name, shape in shapes.items()
        }
        self.parameters |= {"bias": np.zeros(4 * units), "head_bias": np.zeros((genes, most))}
        self._units = units

    def draw(self, random: np.random.Generator, count: int) -> Drawn:
        """Draws `count` genomes; each choice depends on the earlier ones."""
        state, last, made = self._first(count), None, []
        for gene in range(len(self._mask)):
            state = self._step(self._inputs(gene, last, count), state).after
            made.append(draw_choices(self._logits(gene, state), random))
            last = made[-1].choices
        return Drawn(
            np.stack([one.choices for one in made], axis=1), np.stack([one.logs for one in made], axis=1)
        )

    def logits(self, choices: np.ndarray) -> tuple[np.ndarray, Passed]:
        """The logits (batch, genes, choices), where each step reads the given choice of the previous gene."""
        batch, genes = choices.shape
        state, steps, logits = self._first(batch), [], []
        for gene in range(genes):
            last = choices[:, gene - 1] if gene else None
            steps.append(self._step(self._inputs(gene, last, batch), state))
            state = steps[-1].after
            logits.append(self._logits(gene, state))
        return np.stack(logits, axis=1), Passed(choices, tuple(steps))

    def gradients(self, passed: Passed, slopes: np.ndarray) -> Arrays:
        """Backpropagation through time from the gradients of the logits (batch, genes, choices)."""
        found = {name: np.zeros_like(array) for name, array in self.parameters.items()}
        hidden = cell = np.zeros((len(slopes), self._units))
        for gene in reversed(range(len(self._mask))):
            step, slope = passed.steps[gene], slopes[:, gene]
            found["head"][gene] = step.after.hidden.T @ slope
            found["head_bias"][gene] = slope.sum(axis=0)
            hidden = hidden + slope @ self.parameters["head"][gene].T
            sums, cell = _through_gates(step, hidden, cell)
            hidden = self._through_sums(step, sums, found)
            self._into_inputs(gene, passed.choices, sums, found)
        return found

    def _first(self, batch: int) -> State:
        zeros = np.zeros((batch, self._units))
        return State(zeros, zeros)

    def _inputs(self, gene: int, last: np.ndarray | None, batch: int) -> np.ndarray:
        if last is None:
            return np.broadcast_to(self.parameters["start"], (batch, self._units))
        return self.parameters["embedding"][gene - 1, last]

    def _step(self, inputs: np.ndarray, before: State) -> Step:
        weights = self.parameters
        sums = inputs @ weights["kernel"] + before.hidden @ weights["recurrent"] + weights["bias"]
        take, keep, new, show = np.split(sums, 4, axis=-1)
        take, keep, show = (0.5 * (1 + np.tanh(0.5 * gate)) for gate in (take, keep, show))
        new = np.tanh(new)
        cell = keep * before.cell + take * new
        return Step(inputs, before, (take, keep, new, show), State(show * np.tanh(cell), cell))

    def _logits(self, gene: int, state: State) -> np.ndarray:
        logits = state.hidden @ self.parameters["head"][gene] + self.parameters["head_bias"][gene]
        return np.where(self._mask[gene], logits, -np.inf)

    def _through_sums(self, step: Step, sums: np.ndarray, found: Arrays) -> np.ndarray:
        """Adds up the gradients of the LSTM's weights; returns that of the previous hidden state."""
        found["kernel"] += step.inputs.T @ sums
        found["recurrent"] += step.before.hidden.T @ sums
        found["bias"] += sums.sum(axis=0)
        return sums @ self.parameters["recurrent"].T

    def _into_inputs(self, gene: int, choices: np.ndarray, sums: np.ndarray, found: Arrays) -> None:
        inputs = sums @ self.parameters["kernel"].T
        if gene:
            np.add.at(found["embedding"][gene - 1], choices[:, gene - 1], inputs)
        else:
            found["start"] += inputs.sum(axis=0)


def _through_gates(step: Step, hidden: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of a step's pre-activations (batch, 4 units) and of the previous cell state."""
    take, keep, new, show = step.gates
    shown = np.tanh(step.after.cell)
    cell = cell + hidden * show * (1 - shown**2)
    by_gate = (
        cell * new * take * (1 - take),
        cell * step.before.cell * keep * (1 - keep),
        cell * take * (1 - new**2),
        hidden * shown * show * (1 - show),
    )
    return np.concatenate(by_gate, axis=-1), cell * keep


@dataclass(frozen=True, slots=True)
class ControllerOptions(Learning):
    """See `Learning`; `units` is the width of the LSTM and of its embeddings.

    The paper's controller (100 units, PPO with a rate of 3.5e-4, entropy weight 1e-5, baseline 0.95) learned
    from 20,000 networks; the defaults suit a few hundred.
    """

    update: Literal["reinforce", "ppo"] = "reinforce"
    rate: float = 0.05
    momentum: float = 0.0
    baseline: float = 0.9
    entropy: float = 0.1
    batch: int = 1
    epochs: int = 4
    clip: float = 0.2
    redraws: int = 20
    units: int = 16

    def __post_init__(self) -> None:
        Learning.__post_init__(self)  # super() does not work in the class that slots=True creates
        if self.units < 1:
            raise EffkerasError(f"the option units must be 1 or more, not {self.units}")


@register("controller", "LSTM controller, policy gradient (NASNet)", ControllerOptions)
def controller(space: Space, seed: int, options: ControllerOptions) -> PolicySearch:
    """Makes the strategy."""
    random = np.random.default_rng(seed)
    policy = Lstm([len(gene.choices) for gene in space.genes], options.units, random)
    return PolicySearch(space, policy, random, options)
