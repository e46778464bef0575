"""Networks that are not ours: fake-quantized, converted, in int8 but for what is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.tiny_models import decibels, random_images, randomize

from effkeras.litert.runner import make_interpreter
from quantize import ptq, qat

# What may stay in float, and why no more can be asked.
NETWORKS = {
    "ResNet50": set(),
    "MobileNetV2": set(),
    "MobileNetV3Small": {"MUL", "ADD"},  # the pixels' scale, which float inputs and outputs keep exact
    "EfficientNetV2B0": {"MUL", "SUB"},
    "DenseNet121": set(),
}


@pytest.mark.nightly("zoo")
@pytest.mark.parametrize("name", NETWORKS)
def test_keras_applications(name):
    network = getattr(keras.applications, name)
    model = network(weights=None, input_shape=(64, 64, 3), include_top=False, pooling="avg")
    randomize(model, gain=1.0)
    images = random_images(8) / (1 if NETWORKS[name] else 127.5) - (0 if NETWORKS[name] else 1)
    made = qat(model, images)
    assert made.report.skipped == ()
    found = ptq(made.model, "int8")
    assert {one.op for one in found.left_in_float} <= NETWORKS[name]
    call = make_interpreter(found.flatbuffer).get_signature_runner("serving_default")
    ((entry, _),) = call.get_input_details().items()
    got = np.concatenate([next(iter(call(**{entry: image[None]}).values())) for image in images])
    assert decibels(made.model.predict_on_batch(images), got) > 8
