"""Fake-quantized models as artifacts: all in int8, in one piece, and what the model computes."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import keras
import numpy as np
import pytest
from support import small_nets
from support.eager import outputs_of_model
from support.qat_models import kernels, numbers, prepared, small
from support.tiny import digits_folder, tiny_cells
from support.tiny_models import DETECTORS, decibels, keras_outputs, random_images, randomize

import effkeras
from effkeras import EffkerasError
from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.inference.evaluate import evaluate, headline
from effkeras.inference.predictor import KerasPredictor
from effkeras.layers.normalize import spec_of
from effkeras.litert.flatbuffer import operators
from effkeras.litert.rewriting import attached
from effkeras.litert.runner import DEFINITION, LiteRTModel, delegation, make_interpreter
from quantize import ptq, qat
from quantize.post_training.artifact import Quantized
from quantize.specs import PtqSpec, QatSpec

LITE, SWISH = DETECTORS
INT8 = [
    *(pytest.param(LITE, io, marks=pytest.mark.slow) for io in ("int8", "uint8")),
    pytest.param(SWISH, "int8", marks=pytest.mark.slow),
    pytest.param(SWISH, "uint8", marks=pytest.mark.nightly("zoo")),
]
FLOAT = [
    pytest.param(LITE, "float32", marks=pytest.mark.slow),
    pytest.param(SWISH, "float32", marks=pytest.mark.nightly("zoo")),
]


@functools.cache
def artifact(name: str, io: str) -> Quantized:
    return ptq(prepared(name).model, "int8", io=io)


def run(made: Quantized, images: np.ndarray) -> Mapping[str, np.ndarray]:
    """The outputs of an artifact with float inputs and outputs."""
    call = make_interpreter(made.flatbuffer).get_signature_runner("serving_default")
    ((name, _),) = call.get_input_details().items()
    rows = [call(**{name: image[None]}) for image in images]
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


@pytest.mark.parametrize(("name", "io"), INT8)
def test_nothing_is_in_float_and_xnnpack_takes_it_in_one_piece(name, io):
    made = artifact(name, io)
    assert made.left_in_float == ()
    dtypes = {t.dtype for op in operators(made.flatbuffer) for t in (*op.inputs, *op.outputs)}
    assert dtypes <= {"int8", "uint8", "int32"}
    assert LiteRTModel.of_bytes(made.flatbuffer).delegated().partitions == 1


@pytest.mark.parametrize(("name", "io"), [*FLOAT, *INT8])
def test_outputs_are_those_of_the_model(name, io):
    wanted = keras_outputs(prepared(name).model, random_images(8))
    got = LiteRTModel.of_bytes(artifact(name, io).flatbuffer)(random_images(8))
    assert wanted.keys() == got.keys()
    assert all(decibels(values, got[output]) > 22 for output, values in wanted.items())


@pytest.mark.slow
def test_float_inputs_and_outputs_keep_normalization_exact():
    left = artifact(LITE, "float32").left_in_float
    assert {(one.op, one.name) for one in left} == {("MUL", "normalize"), ("ADD", "normalize")}
    assert all("normalised exactly" in one.why for one in left)


@pytest.mark.slow
def test_papers_are_attached():
    assert attached(artifact(LITE, "int8").flatbuffer, DEFINITION)
    assert artifact(LITE, "int8").ranges == "trained"


def test_a_network_of_ones_own_with_every_kind_of_layer():
    model = small().model
    made = ptq(model, "int8")
    assert made.left_in_float == ()
    images = small_nets.examples()[0]
    got = run(made, images)
    for key, values in keras_outputs(model, images).items():
        assert np.std(values - got[key]) < 0.03 * np.std(values)  # often there is no difference at all


@pytest.mark.slow
def test_cells_are_int8_throughout_and_mostly_delegated():
    model = build_spec(tiny_cells("nasnet-mobile", (64, 64), survival=0.7), activation=None)
    randomize(model)
    fake = qat(model, random_images(8))
    assert fake.report.skipped == ()
    made = fake.model
    wanted = outputs_of_model(made, random_images(8))
    assert decibels(outputs_of_model(model, random_images(8)), wanted) > 10
    found = ptq(made, "int8", io="int8")
    assert found.left_in_float == ()
    share = delegation(make_interpreter(found.flatbuffer), found.flatbuffer)
    assert share.delegated_ops > 0.9 * share.total_ops  # XNNPACK leaves some of NASNet's operators alone
    got = LiteRTModel.of_bytes(found.flatbuffer)(random_images(8))["scores"]
    assert decibels(wanted, got) > 12


def test_a_skipped_kernel_is_left_in_float_with_the_reason():
    made = ptq(small(QatSpec(skip=("expand",))).model, "int8")
    assert [(one.op, one.name) for one in made.left_in_float] == [("CONV_2D", "expand")]
    assert "skip" in made.left_in_float[0].why


def stored(made: Quantized, kernel: np.ndarray) -> np.ndarray:
    """The int8 codes of the kernel of this many weights."""
    interpreter = make_interpreter(made.flatbuffer, xnnpack=False)
    details = interpreter.get_tensor_details()
    (found,) = (
        d
        for d in details
        if d["dtype"] == np.int8
        and np.prod(d["shape"]) == kernel.size
        and d["quantization_parameters"]["scales"].size > 1
    )
    return interpreter.get_tensor(found["index"])


def test_zeros_are_zero_in_int8():
    model = small_nets.plain()
    kernel = model.get_layer("hidden").kernel
    mask = np.random.default_rng(0).random(kernel.shape) < 0.3
    kernel.assign(kernel * mask)
    codes = stored(ptq(small(None, model).model, "int8"), numbers(kernel))
    assert np.all(codes.T[~mask] == 0)
    assert np.mean(codes != 0) > 0.25


def test_clusters_are_clusters_in_int8():
    model = small_nets.plain()
    kernel = model.get_layer("hidden").kernel
    centroids = np.array([-0.3, -0.05, 0.0, 0.07, 0.25], np.float32)
    index = np.random.default_rng(0).integers(0, 5, kernel.shape)
    index[:, 0] %= 4  # a channel without the largest: its range must not be its own
    kernel.assign(centroids[index])
    made = small(QatSpec(keep_clusters=True), model).model
    codes = stored(ptq(made, "int8"), numbers(kernel))
    assert np.array_equal(np.unique(codes), np.rint(centroids / 0.3 * 127))
    wanted = numbers(kernels(made)["hidden"].folded_kernel())
    np.testing.assert_allclose(codes.T * 0.3 / 127, wanted, atol=1e-5)


def test_other_recipes_and_corrections_are_refused():
    model = prepared(LITE).model
    with pytest.raises(EffkerasError, match="dynamic cannot"):
        ptq(model, "dynamic")
    with pytest.raises(EffkerasError, match="leave out equalize"):
        ptq(model, "int8", spec=PtqSpec(correct_bias=True))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("efficientnet-digits", 2000, marks=pytest.mark.slow),
        pytest.param("efficientdet-digits", 300, marks=pytest.mark.nightly("training")),
    ],
)
def test_the_metric_is_that_of_the_fake_quantized_model(name, count, tmp_path):
    is_classifier = name == "efficientnet-digits"
    folder = digits_folder(tmp_path / "digits", train=24, test=count, classify=is_classifier)
    model = effkeras.build(name, weights="digits")
    made = qat(model, open_data(folder, "train")).model
    data = open_data(folder, "test")
    wanted = evaluate(KerasPredictor.of(made), data)
    got = evaluate(LiteRTModel.of_bytes(ptq(made, "int8").flatbuffer), data)
    metric = headline(spec_of(model))
    assert wanted[metric] > 0.7
    assert got[metric] == pytest.approx(wanted[metric], abs=0.003)


def test_a_relu_of_its_own_cuts_as_it_should():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    branches = [
        keras.layers.Conv2D(2, 1, name=f"{kind}_conv")(keras.layers.Activation(kind, name=kind)(x))
        for kind in ("relu", "relu6")
    ]
    model = keras.Model(image, keras.layers.Concatenate(name="both")([x, *branches]))
    made = qat(model, 8 * small_nets.examples()[0]).model
    found = ptq(made, "int8")
    assert found.left_in_float == ()
    assert not any(op.name.startswith("RELU") for op in operators(found.flatbuffer))
    images = 8 * small_nets.examples()[0]
    (got,) = run(found, images).values()
    assert decibels(outputs_of_model(made, images), got) > 40
