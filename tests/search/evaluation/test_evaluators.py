"""Evaluators by settings, in a fresh process, from plain data."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import pytest
from support.short_trials import BlockSpace

from effkeras.search.evaluation.evaluators import Evaluation, make_evaluator
from effkeras.search.evaluation.settings import (
    KINDS,
    REMOVED_KINDS,
    ArtifactSettings,
    Candidate,
    EvaluationData,
    EvaluationSettings,
    checked,
)
from effkeras.support.errors import EffkerasError

SMALL = EvaluationSettings(epochs=1, batch=12, train_images=12, validation_images=8)
GENOME = (0,) * 6


@pytest.mark.parametrize("kind", ["train", pytest.param("proxy:synflow", marks=pytest.mark.slow)])
def test_every_kind_makes_an_outcome(digit_classes, kind):
    settings = dataclasses.replace(SMALL, kind=kind, costs=("macs",))
    evaluation = pickle.loads(pickle.dumps(Evaluation(settings, EvaluationData(digit_classes), BlockSpace())))
    told = []
    evaluator = evaluation()
    outcome = evaluator(Candidate(GENOME, 1), lambda step, accuracy: told.append((step, accuracy)))
    assert 0 <= outcome.accuracy <= 1
    assert told == [(1, outcome.accuracy)]
    assert set(evaluator.costs(Candidate(GENOME, 1))) == {"macs"}


@pytest.mark.slow
def test_a_space_read_from_a_file_is_evaluated(digit_classes):
    import numpy as np

    from effkeras.search.genomes import sample
    from effkeras.search.spaces.reading import read_space

    space = read_space("digits-blocks")
    genome = sample(space, np.random.default_rng(0))
    settings = dataclasses.replace(SMALL, kind="proxy:synflow")
    evaluator = pickle.loads(pickle.dumps(Evaluation(settings, EvaluationData(digit_classes), space)))()
    candidate = Candidate(genome, 0)
    outcome = evaluator(candidate, lambda *_: None)
    assert outcome.metrics["parameters"] == evaluator.costs(candidate)["parameters"]


def test_settings_need_no_tensorflow():
    code = (
        "import sys; import effkeras.search.evaluation.evaluators, effkeras.search.evaluation.block_tables;"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "proxy:snip"}, "there is no kind 'proxy:snip'"),
        ({"kind": "trian"}, "did you mean 'train'"),
        ({"costs": ("flops",)}, "there is no cost 'flops'"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"artifact": ArtifactSettings(threads=0)}, "threads and runs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(EffkerasError, match=message):
        checked(dataclasses.replace(SMALL, **changes))


@pytest.mark.parametrize("kind", REMOVED_KINDS)
def test_a_removed_kind_is_one_clear_error(kind):
    with pytest.raises(EffkerasError, match=f"{kind} was removed, .* use train or proxy:macs"):
        checked(dataclasses.replace(SMALL, kind=kind))


def test_a_cost_named_twice_is_measured_once():
    assert checked(EvaluationSettings(costs=("macs", "macs"))).costs == ("macs",)
    assert all(checked(EvaluationSettings(kind=kind)).kind == kind for kind in KINDS)


def test_missing_data_are_told_at_once(tmp_path):
    with pytest.raises(EffkerasError, match="there is no such data folder"):
        make_evaluator(SMALL, EvaluationData(tmp_path / "nosuch"), BlockSpace())
