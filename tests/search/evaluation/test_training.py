"""Short trainings: they learn, they are measured as they are, and they leave nothing behind."""

from __future__ import annotations

import gc
import resource

import numpy as np
import pytest
from support.eager import outputs_of_model
from support.short_trials import BlockSpace, block_net
from support.tiny import digits_folder, tiny_classifier, tiny_detector

from effkeras.inference.predictor import KerasPredictor
from effkeras.search.evaluation import training
from effkeras.search.evaluation.images import SearchImages, open_splits
from effkeras.search.evaluation.settings import Candidate, EvaluationSettings, Pruned
from effkeras.search.evaluation.training import FitPlan, ShortFit, ShortTraining, accuracy
from effkeras.support.errors import EffkerasError
from effkeras.training.settings import TrainSettings

SETTINGS = EvaluationSettings(epochs=2, batch=8)
CANDIDATE = Candidate((0,) * 6, seed=3)


class Single:
    """A space of one network."""

    def __init__(self, spec):
        self._spec = spec

    def spec(self, genome):
        return self._spec


def quiet(step: int, accuracy: float) -> None:
    pass


@pytest.fixture(scope="module")
def images(digit_classes):
    return SearchImages(open_splits(digit_classes))


@pytest.fixture(scope="module")
def two_tones(tmp_path_factory):
    """Dark and bright noise, a class each: whoever learns anything tells them apart."""
    from effkeras.data.formats.class_folders import write_folder

    root = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    for split, count in {"train": 96, "val": 24}.items():
        tones = [("dark", 40) if index % 2 else ("bright", 200) for index in range(count)]
        noise = [(name, random.integers(-40, 40, (32, 32, 3)) + tone) for name, tone in tones]
        write_folder(root, split, ("dark", "bright"), [(name, one.astype(np.uint8)) for name, one in noise])
    return SearchImages(open_splits(root))


@pytest.mark.slow
def test_a_candidate_is_trained_and_measured(images):
    told = []
    settings = EvaluationSettings(epochs=2, batch=8, costs=("macs",))
    space = Single(block_net("r1_k3_s2_e1_i8_o8"))
    outcome = ShortTraining(space, images, settings)(
        CANDIDATE, lambda step, accuracy: told.append((step, accuracy))
    )
    assert [step for step, _ in told] == [1, 2]
    assert outcome.accuracy == max(accuracy for _, accuracy in told)
    assert set(ShortTraining(space, images, settings).costs(CANDIDATE)) == {"macs"}
    assert outcome.metrics["epochs"] == 2
    again = ShortTraining(space, images, settings)(CANDIDATE, quiet)
    assert again.accuracy == outcome.accuracy


def test_the_seed_decides(images):
    one, other = (_fitting(block_net("r1_k3_s2_e1_i8_o8"), images, seed).epoch(0) for seed in (0, 1))
    assert one != other


def _fitting(spec, images, seed):
    import keras

    from effkeras.building.models import build_spec

    keras.utils.set_random_seed(seed)
    course = FitPlan(spec, TrainSettings(epochs=2, batch=8, seed=seed))
    return ShortFit(build_spec(spec), course, images.training(spec))


def _slow_norm():
    from effkeras.definitions.networks import BatchNormSpec

    return block_net("r1_k3_s2_e1_i8_o8", batch_norm=BatchNormSpec(momentum=0.99)).replace(
        classes=2, labels=()
    )


@pytest.mark.parametrize("is_fixed", [False, True], ids=["ours", "fixed"])
def test_the_statistics_are_those_of_the_images(two_tones, monkeypatch, is_fixed):
    """The trap: after six steps a momentum of 0.99 is near its start, and accuracies mean nothing."""
    from effkeras.building.models import build_spec

    if is_fixed:
        monkeypatch.setattr(training.RisingMomentum, "set", lambda self, steps: None)
    spec = _slow_norm()
    model = build_spec(spec)
    pixels = two_tones.training(spec)[0].numpy().astype(np.float32)
    course = FitPlan(spec, TrainSettings(epochs=6, batch=len(pixels), learning_rate=1e-9))
    trained = ShortFit(model, course, two_tones.training(spec))
    for epoch in range(6):
        trained.epoch(epoch)
    maps = outputs_of_model(_model(model, model.get_layer("stem_conv").output), pixels)
    wanted, found = maps.mean((0, 1, 2)), model.get_layer("stem_bn").moving_mean.numpy()
    share = np.linalg.norm(found) / np.linalg.norm(wanted)
    # What is left of the start: the product of (1 + n) / (10 + n) for the first steps, or 0.99 ** 6.
    left = 0.99**6 if is_fixed else np.prod([(1 + n) / (10 + n) for n in range(6)])
    assert share == pytest.approx(1 - left, abs=1e-3)
    assert (share > 0.99) is not is_fixed


def _model(model, output):
    import keras

    return keras.Model(model.input, output)


def test_what_is_easy_is_learned_and_the_training_ends_when_nothing_improves(two_tones):
    settings = EvaluationSettings(epochs=30, batch=16, patience=2)
    outcome = ShortTraining(Single(_slow_norm()), two_tones, settings)(CANDIDATE, quiet)
    assert outcome.accuracy == 1
    assert 3 <= outcome.metrics["epochs"] < 30


def test_whoever_listens_may_end_it(images):
    def prune(step: int, accuracy: float) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        ShortTraining(Single(block_net("r1_k3_s2_e1_i8_o8")), images, SETTINGS)(CANDIDATE, prune)


def test_a_diverged_training_is_a_failure(two_tones):
    settings = EvaluationSettings(epochs=2, batch=16, learning_rate=1e30)
    with pytest.raises(EffkerasError, match="diverged in epoch"):
        ShortTraining(Single(_slow_norm()), two_tones, settings)(CANDIDATE, quiet)


def test_a_model_that_says_nan_is_never_right(images):
    from effkeras.building.models import build_spec
    from effkeras.data.classes import spec_for_data

    spec = spec_for_data(BlockSpace().base, images.splits.train)
    model = build_spec(spec)
    model.get_layer("logits").bias.assign(np.full(10, np.nan))
    assert accuracy(KerasPredictor(model, spec), images) == 0


def test_the_measure_is_that_of_evaluate(images):
    from effkeras.building.models import build_spec
    from effkeras.data.classes import spec_for_data
    from effkeras.inference.evaluate import evaluate

    spec = spec_for_data(tiny_classifier(), images.splits.train)
    model = build_spec(spec)
    wanted = evaluate(KerasPredictor(model, spec), images.splits.validation)
    assert accuracy(KerasPredictor(model, spec), images) == wanted["top1"]


@pytest.mark.slow
def test_a_detector_is_trained_on_its_boxes(digits):
    images = SearchImages(open_splits(digits), train_limit=8, validation_limit=4)
    settings = EvaluationSettings(epochs=1, batch=4)
    outcome = ShortTraining(Single(tiny_detector()), images, settings)(CANDIDATE, quiet)
    assert 0 <= outcome.accuracy < 1
    assert len(images.training(tiny_detector())[0]) == 8
    assert sum(len(batch.records) for batch in images.validation(tiny_detector())) == 4


def test_images_are_read_once_for_each_size(images, monkeypatch):
    spec = BlockSpace().base
    samples = images.training(spec)
    monkeypatch.setattr("effkeras.search.evaluation.images.ImageStore", None)
    assert images.training(spec) is samples


def test_too_many_images_are_refused(digit_classes, monkeypatch):
    monkeypatch.setattr("effkeras.search.evaluation.images.MEMORY_BUDGET", 50_000)
    with pytest.raises(EffkerasError, match="use fewer images"):
        SearchImages(open_splits(digit_classes)).training(BlockSpace().base)


def test_data_without_a_validation_split_holds_images_out(tmp_path):
    import shutil

    root = digits_folder(tmp_path / "digits", classify=True)
    shutil.rmtree(root / "val")
    splits = open_splits(root)
    paths = {record.path for record in splits.train.records}
    assert splits.validation.records
    assert paths.isdisjoint(record.path for record in splits.validation.records)


def test_data_of_another_task_is_refused(images):
    with pytest.raises(EffkerasError, match="does not fit"):
        ShortTraining(Single(tiny_detector()), images, SETTINGS)(CANDIDATE, quiet)


@pytest.mark.slow
def test_candidates_leave_no_memory_behind(images):
    evaluate = ShortTraining(BlockSpace(), images, EvaluationSettings(epochs=1, batch=8))
    used = []
    for seed in range(9):
        evaluate(Candidate((seed % 2, 1, 1, seed % 2, 1, 1), seed), quiet)
        gc.collect()
        used.append(_resident())
    # Allocators' pools go up and down by some 15 MB, so the least use early and late is compared. A model
    # left behind with its graphs would be about 20 MB.
    assert min(used[6:]) - min(used[1:4]) < 5 * 5 * 2**20


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no path of ours
        return int(file.read().split()[1]) * resource.getpagesize()
