"""A student learns from a teacher: what the loss is, that it works, and what it leaves alone."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from support.tiny import tiny_classifier, tiny_detector
from support.tiny_models import randomize

from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.data.store import ImageStore
from effkeras.support.errors import EffkerasError
from effkeras.training.callbacks import Hook
from effkeras.training.compiling import compile_for
from effkeras.training.loop import TuneJob, copy_of, tune
from effkeras.training.pipeline import BatchSpec, training_batches
from effkeras.training.settings import TrainSettings
from quantize.distillation import DistilledModel, distill, teaching, terms_for
from quantize.specs import DistillSpec, TuneSpec
from quantize.splits import StepTraining

ALL = DistillSpec(weight=1.0)
QUICK = TrainSettings(epochs=2, batch=8, learning_rate=3e-3, warmup_epochs=0.5, validation_images=4)


def network(kind: str, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_spec(
        _spec("detector").replace(heads=("detect", "segment")) if kind == "masks" else _spec(kind)
    )


@functools.cache
def teacher(kind: str) -> keras.Model:
    """A model of strong opinions."""
    model = network(kind, 1)
    if kind == "classifier":
        logits = model.get_layer("logits")
        logits.kernel.assign(logits.kernel * 30)
    else:
        randomize(model)
    return model


def dense(activation: str | None, classes: int = 3) -> keras.Model:
    image = keras.Input((4,))
    return keras.Model(image, keras.layers.Dense(classes, activation=activation, name="end")(image))


def image_free(count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def batch(digits, digit_classes):
    """(pixels, targets) of a training step, by kind."""

    def read(kind: str):
        folder = digit_classes if kind == "classifier" else digits
        spec = _spec(kind)
        store = ImageStore(open_data(folder, "train"), spec.input)
        return next(iter(training_batches(store, spec, BatchSpec(8, 0, None), range(1))))

    return functools.cache(read)


def _spec(kind: str):
    return tiny_classifier() if kind == "classifier" else tiny_detector()


def loss_of(model: keras.Model, kind: str, batch) -> float:
    compile_for(model, _spec(kind), QUICK, 3)
    x, y = batch
    return float(model.compute_loss(x, y, model(x, training=False)))


@pytest.mark.parametrize("kind", ["classifier", pytest.param("detector", marks=pytest.mark.slow)])
def test_weight_0_is_the_plain_loss(kind, batch):
    student = network(kind)
    plain = loss_of(student, kind, batch(kind))
    wrapped = DistilledModel(copy_of(student), teacher(kind), DistillSpec(weight=0.0))
    assert loss_of(wrapped, kind, batch(kind)) == plain


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_the_loss_mixes_labels_and_teacher(kind, batch):
    student = network(kind)
    plain, mixed, taught = (
        loss_of(DistilledModel(student, teacher(kind), DistillSpec(weight=weight)), kind, batch(kind))
        for weight in (0.0, 0.25, 1.0)
    )
    assert mixed == pytest.approx(0.75 * plain + 0.25 * taught, rel=1e-5)
    assert taught > 0


@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_a_student_that_is_the_teacher_has_nothing_to_learn(kind, batch):
    copy = copy_of(teacher(kind))
    assert loss_of(DistilledModel(copy, teacher(kind), ALL), kind, batch(kind)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("classifier", marks=pytest.mark.slow),
        pytest.param("detector", marks=pytest.mark.nightly("training")),
    ],
)
def test_a_random_student_approaches_its_teacher(kind, batch):
    student, master = network(kind), teacher(kind)
    before = master.get_weights()
    wrapped = DistilledModel(student, master, ALL)
    wrapped.compile(keras.optimizers.Adam(3e-3), loss=_losses(kind))
    x, y = batch(kind)
    history = wrapped.fit(x, y, batch_size=8, epochs=30, verbose=0).history["loss"]
    assert np.mean(history[-3:]) < (0.5 if kind == "classifier" else 0.85) * np.mean(history[:3])
    assert all(map(np.array_equal, before, master.get_weights()))
    assert [one.path for one in wrapped.variables] == [one.path for one in student.variables]
    assert not {id(one) for one in wrapped.variables} & {id(one) for one in master.variables}


def _losses(kind: str):
    model = network(kind)
    compile_for(model, _spec(kind), QUICK, 3)
    return model.loss


@pytest.mark.slow
def test_every_trained_weight_has_a_gradient(batch):
    import tensorflow as tf

    x, y = batch("detector")
    wrapped = DistilledModel(network("detector"), teacher("detector"), ALL)
    wrapped.compile("sgd", loss=_losses("detector"))
    with tf.GradientTape() as tape:
        loss = wrapped.compute_loss(x, y, wrapped(x, training=True))
    gradients = tape.gradient(loss, [one.value for one in wrapped.trainable_variables])
    assert all(one is not None and np.isfinite(one).all() for one in gradients)


@pytest.mark.parametrize(("ours", "theirs"), [("softmax", None), (None, "softmax"), ("softmax", "softmax")])
def test_temperature_and_divergence_are_the_papers(ours, theirs):
    student, master = dense(ours), dense(theirs)
    wrapped = DistilledModel(student, master, DistillSpec(1.0, temperature=3.0))
    wrapped.compile("sgd", loss="mse")
    x = image_free()

    def softened(model):
        layer = model.get_layer("end")
        z = (x @ np.asarray(layer.kernel) + np.asarray(layer.bias)).astype(np.float64) / 3.0
        return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)

    p, q = softened(student), softened(master)
    wanted = 9.0 * np.mean(np.sum(q * np.log(q / p), axis=-1))
    got = float(wrapped.compute_loss(x, np.zeros((16, 3), np.float32), wrapped(x)))
    assert got == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("activation", "classes"), [("sigmoid", 3), (None, 1)])
def test_chances_of_their_own_are_compared_one_by_one(activation, classes):
    student, master = dense(activation, classes), dense(activation, classes)
    wrapped = DistilledModel(student, master, DistillSpec(1.0, temperature=1.0))
    wrapped.compile("sgd", loss="mse")
    x = image_free()
    p, q = (np.asarray(one(x), np.float64) for one in (student, master))
    if activation is None:
        p, q = (1 / (1 + np.exp(-one)) for one in (p, q))
    wanted = np.mean(np.sum(q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p)), axis=-1))
    got = float(wrapped.compute_loss(x, np.zeros((16, classes), np.float32), wrapped(x)))
    assert got == pytest.approx(wanted, rel=1e-4)


def test_a_mask_is_compared_pixel_by_pixel():
    terms = terms_for(network("masks"), network("masks", 1), 2.0)
    assert set(terms) == {"class_logits", "box_deltas", "mask_logits"}
    assert not terms["mask_logits"].single


def test_evaluation_knows_no_teacher():
    student = dense("softmax")
    wrapped = DistilledModel(student, dense("softmax"), ALL)
    for model in (student, wrapped):
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    x, y = image_free(), np.arange(16) % 3
    assert wrapped.evaluate(x, y, verbose=0) == pytest.approx(student.evaluate(x, y, verbose=0), rel=1e-6)


@pytest.mark.parametrize(
    ("student", "master", "message"),
    [
        (lambda: dense("softmax", 3), lambda: dense("softmax", 4), "is 3 and the teacher's 4"),
        (lambda: dense("softmax"), lambda: dense("sigmoid"), "softmax, of the other a sigmoid"),
        (
            lambda: network("classifier"),
            lambda: teacher("detector"),
            "student's input|the student outputs",
        ),
        (lambda: dense(None), lambda: teacher("classifier"), "student's input is 4"),
    ],
)
def test_outputs_that_do_not_match(student, master, message):
    with pytest.raises(EffkerasError, match=message):
        DistilledModel(student(), master(), ALL)


@pytest.mark.parametrize("how", [DistillSpec(-0.1), DistillSpec(1.5), DistillSpec(0.5, 0.0)], ids=str)
def test_settings_that_make_no_sense(how):
    with pytest.raises(EffkerasError, match="must"):
        teaching(dense(None), how)


def test_a_broken_teacher_is_refused():
    master = dense(None)
    master.get_layer("end").bias.assign([np.nan, 0, 0])
    with pytest.raises(EffkerasError, match="not finite"):
        teaching(master, ALL)


class _Kill(Hook):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_distillation_ends_the_same(digit_classes, tmp_path):
    def job(out: str, hooks: tuple[Hook, ...] = ()) -> TuneJob:
        data = open_data(digit_classes, "train")
        wrap = teaching(teacher("classifier"), DistillSpec())
        student = network("classifier")
        return TuneJob(student, tiny_classifier(), data, None, QUICK, tmp_path / out, hooks, wrap)

    whole = tune(job("whole"))
    with pytest.raises(KeyboardInterrupt):
        tune(job("broken", (_Kill(),)))
    resumed = tune(job("broken"))
    assert all(map(np.array_equal, whole.get_weights(), resumed.get_weights()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "detector"])
def test_distillation_from_data_to_report(kind, digits, digit_classes, tmp_path):
    folder = digit_classes if kind == "classifier" else digits
    student = network(kind)
    before = student.get_weights()
    training = StepTraining(
        open_data(folder, "train"), tmp_path, open_data(folder, "val"), TuneSpec(epochs=2, batch=8)
    )
    made = distill(student, teacher(kind), training, ALL)
    assert all(map(np.array_equal, before, student.get_weights()))
    assert not all(map(np.array_equal, before, made.model.get_weights()))
    assert {one.name for one in made.report.done} == set(terms_for(student, teacher(kind), 1.0))
    assert all(np.isfinite(one.error) for one in made.report.done)
