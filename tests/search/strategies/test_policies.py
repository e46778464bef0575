"""What policies share: probabilities, and the slopes of what they descend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effkeras.search.strategies.policies import (
    Adam,
    Baseline,
    draw_choices,
    log_softmax,
    mask,
    of_choices,
    slopes,
)
from effkeras.search.strategies.policy_search import is_within

SIZES = (3, 1, 4)
seeds = st.integers(0, 10_000)


def masked(random, batch):
    return np.where(mask(SIZES), random.normal(0, 2, (batch, len(SIZES), max(SIZES))), -np.inf)


def numeric(loss, logits, step=1e-6):
    """The gradient by differences, 0 where there is no choice."""
    found = np.zeros_like(logits)
    for place in np.argwhere(np.isfinite(logits)):
        moved = [logits.copy(), logits.copy()]
        moved[0][tuple(place)] += step
        moved[1][tuple(place)] -= step
        found[tuple(place)] = (loss(moved[0]) - loss(moved[1])) / (2 * step)
    return found


def entropies(logits):
    logs = log_softmax(logits)
    return -np.where(np.isfinite(logs), np.exp(logs) * np.where(np.isfinite(logs), logs, 0), 0).sum(axis=-1)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 3), st.sampled_from([0.0, 0.3]))
def test_slopes_are_those_of_the_loss(seed, batch, entropy):
    random = np.random.default_rng(seed)
    logits, weights = masked(random, batch), random.normal(size=(batch, len(SIZES)))
    choices = random.integers(SIZES, size=(batch, len(SIZES)))

    def loss(at):
        gain = weights * of_choices(log_softmax(at), choices) + entropy * entropies(at)
        return -gain.sum(axis=1).mean()

    np.testing.assert_allclose(slopes(logits, choices, weights, entropy), numeric(loss, logits), atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 3))
def test_ppo_descends_the_clipped_objective(seed, batch):
    """Weights of advantage * ratio inside the clip give the slopes of min(r A, clip(r) A)."""
    random = np.random.default_rng(seed)
    logits, advantages = masked(random, batch), random.normal(size=(batch, 1))
    choices = random.integers(SIZES, size=(batch, len(SIZES)))
    then = of_choices(log_softmax(logits + 0.3 * random.normal(size=logits.shape)), choices)

    def loss(at):
        ratios = np.exp(of_choices(log_softmax(at), choices) - then)
        return -np.minimum(ratios * advantages, np.clip(ratios, 0.8, 1.2) * advantages).sum(axis=1).mean()

    ratios = np.exp(of_choices(log_softmax(logits), choices) - then)
    weights = advantages * ratios * is_within(ratios, advantages, 0.2)
    np.testing.assert_allclose(slopes(logits, choices, weights, 0.0), numeric(loss, logits), atol=1e-6)


def test_no_choice_is_drawn_that_is_not_there():
    random = np.random.default_rng(0)
    drawn = draw_choices(masked(random, 5000), random)
    assert drawn.choices.max(axis=0).tolist() == [size - 1 for size in SIZES]
    assert (drawn.logs[:, 1] == 0).all()


def test_adam_steps_like_keras():
    random = np.random.default_rng(0)
    ours = {"a": random.normal(size=(3, 2)), "b": random.normal(size=4)}
    theirs = {name: keras.Variable(array, dtype="float64") for name, array in ours.items()}
    adam, reference = Adam(0.05, 0.7), keras.optimizers.Adam(0.05, beta_1=0.7, epsilon=1e-12)
    for _ in range(10):
        gradients = {name: random.normal(size=array.shape) for name, array in ours.items()}
        adam.step(ours, gradients)
        reference.apply(list(gradients.values()), [theirs[name] for name in gradients])
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name].numpy(), rtol=1e-4)


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=30), st.integers(-10, 10))
def test_advantages_do_not_depend_on_the_scale_of_rewards(rewards, power):
    one, other = Baseline(0.9), Baseline(0.9)
    for reward in rewards:
        advantage = one.advantage(reward)
        assert other.advantage(reward * 2.0**power) == advantage
        assert abs(advantage) <= 3


def test_the_baseline_is_a_plain_mean_at_first_and_forgets():
    baseline = Baseline(0.9)
    assert baseline.advantage(0.5) == 0
    assert baseline.advantage(0.7) == 1  # nothing is known of the spread yet
    mean = (0.9 * 0.5 + 0.7) / 1.9
    spread = np.sqrt(0.2**2 / 1.9)
    assert baseline.advantage(0.65) == pytest.approx((0.65 - mean) / spread)
    for _ in range(200):
        baseline.advantage(0.1)
    assert abs(baseline.advantage(0.1)) < 1e-3
