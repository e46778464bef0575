"""Detectors on other networks: any of the zoo, or a Keras model of one's own."""

from __future__ import annotations

import dataclasses
import functools
import logging

import keras
import numpy as np
import pytest
from support.tiny import tiny_classifier

import effkeras
from effkeras.building.backbones import TappedModel, with_backbone
from effkeras.building.models import build_spec
from effkeras.data.splits import open_data
from effkeras.definitions.changes import with_size
from effkeras.definitions.definition import HeadSpec, ModelSpec, spec_from_table
from effkeras.detection.boxes import anchor_boxes
from effkeras.graph.counting import backbone_layers, count
from effkeras.layers.normalize import spec_of
from effkeras.support.errors import EffkerasError
from effkeras.training.freezing import frozen_layers
from effkeras.training.loop import Job, train
from effkeras.training.settings import TrainSettings
from effkeras.weights.keras_files import load, save

L = keras.layers
QUICK = ["squeezenet-1.1", "mobilenet-v2-0.35", "mobilenet"]
SLOW = ["resnet50", "inceptionv3", "xception", "convnexttiny", "vgg16", "densenet121", "inceptionresnetv2"]
OTHERS = [
    "nasnet-mobile",
    "pnasnet-mobile",
    "efficientnetv2-b0",
    "mixnet-s",
    "mnasnet-a1",
    "efficientnet-edgetpu-s",
    "squeezenet-1.0",
]

CIFAR = "nasnet-cifar"  # it ends with stride 4
# Those that Keras builds take seconds each; tests/test_every_model.py looks at their maps while it has them.
OWN = [
    name
    for name in effkeras.list_models()
    if "det" not in name and name != CIFAR and effkeras.spec(name).family != "application"
]


def tiny(size: tuple[int, int] = (64, 64)) -> ModelSpec:
    """D0 with little beyond its network."""
    spec = effkeras.spec("d0")
    fpn = dataclasses.replace(spec.fpn, levels=(3, 5), channels=16, cells=1)
    return with_size(spec, size).replace(name="tiny", classes=3, category_ids=(), fpn=fpn, head=HeadSpec(1))


def own_model(size: tuple[int | None, int | None] = (None, None), **outputs: str) -> keras.Model:
    """Five strided convolutions, c1 to c5; with `outputs`, a dict of these layers' maps."""
    x = image = keras.Input((*size, 3), name="image")
    maps = {}
    for level in range(1, 6):
        x = L.Conv2D(4 + level, 3, strides=2, padding="same", use_bias=False, name=f"c{level}")(x)
        x = maps[f"c{level}"] = L.ReLU(name=f"r{level}")(L.BatchNormalization(name=f"b{level}")(x))
    return keras.Model(image, {key: maps[name] for key, name in outputs.items()} or x, name="own")


TAPS = {3: "r3", 4: "r4", 5: "r5"}


def images(size: tuple[int, int] = (64, 64)) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype(np.float32)


def runs(model: keras.Model) -> dict[str, np.ndarray]:
    spec = spec_of(model)
    outputs = {key: np.asarray(one) for key, one in model(images(spec.input.size)).items()}
    assert outputs["class_logits"].shape == (1, len(anchor_boxes(spec)), spec.classes)
    assert all(np.isfinite(one).all() for one in outputs.values())
    return outputs


@pytest.mark.parametrize(
    "name",
    [
        QUICK[0],
        *(pytest.param(name, marks=pytest.mark.slow) for name in QUICK[1:]),
        *(pytest.param(name, marks=pytest.mark.nightly("zoo")) for name in SLOW + OTHERS),
    ],
)
def test_a_zoo_name_is_a_backbone(name):
    model = effkeras.build(tiny((96, 128)), backbone=name)
    runs(model)
    spec, source = spec_of(model), effkeras.spec(name)
    assert (spec.name, spec.backbone) == (f"tiny-{name}", name)
    assert (spec.input.mean, spec.input.std) == (source.input.mean, source.input.std)
    counts = count(spec)
    assert counts.total == sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert {layer.name for layer in model.layers} >= backbone_layers(spec)


@pytest.mark.nightly("zoo")
@pytest.mark.parametrize("name", OWN)
def test_every_network_of_the_zoo_fits_a_pyramid(name):
    count(with_backbone(tiny((96, 160)), name))  # which refuses maps of other sizes


def test_a_network_for_tiny_images_is_no_backbone():
    with pytest.raises(EffkerasError, match=f"tiny-{CIFAR}: the network has no map of stride 8"):
        effkeras.build(tiny(), backbone=CIFAR)


@pytest.mark.parametrize("name", ["squeezenet-1.1", "mobilenet-v2-0.35"])
@pytest.mark.parametrize("size", [(100, 132), (33, 65)])
def test_odd_sizes(name, size):
    runs(effkeras.build(tiny(size), backbone=name))


def test_maps_of_other_sizes_are_refused():
    with pytest.raises(EffkerasError, match=r"map of level 3 is 12 x 12 and a pyramid needs 13 x 13"):
        effkeras.build(tiny((100, 100)), backbone="mobilenet")


def test_a_definition_is_the_backbone_by_any_spelling(tmp_path):
    source = effkeras.spec("mobilenet-v2-0.35")
    file = tmp_path / "mobilenet-v2-0.35.toml"
    file.write_text(source.to_toml())
    assert with_backbone(tiny(), file) == with_backbone(tiny(), source)
    assert with_backbone(tiny(), str(file)) == with_backbone(tiny(), "mobilenet-v2-0.35")


def test_nothing_is_promised_of_a_hybrid():
    spec = with_backbone(effkeras.spec("efficientdet-digits"), "squeezenet-1.1")
    assert not spec.weights
    assert spec.published is None
    assert spec.labels == effkeras.spec("efficientdet-digits").labels


def test_a_hybrid_is_read_back(tmp_path):
    source = effkeras.spec("vgg16").replace(name="unheard-of")
    for spec in (with_backbone(tiny(), source), with_backbone(tiny(), "vgg16")):
        spec = spec.replace(network=dataclasses.replace(spec.network, hidden=()))
        file = tmp_path / "model.toml"
        file.write_text(spec.to_toml())
        assert effkeras.spec(file) == spec


def test_widths_follow_the_network():
    source = effkeras.spec("b0").replace(channels={"stem_conv": 24, "head_conv": 1000})
    spec = tiny().replace(channels={"stem_conv": 40})
    assert with_backbone(spec, source).channels == {"stem_conv": 24}
    assert with_backbone(spec, "mobilenet-v2-0.35").channels == {}


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("mobilenet-v7", "there is no model 'mobilenet-v7'"),
        (7, "a backbone is a name, .* a ModelSpec or a Keras model, not int"),
    ],
)
def test_what_is_no_backbone_is_refused(backbone, message):
    with pytest.raises(EffkerasError, match=message):
        effkeras.build(tiny(), backbone=backbone)


def test_a_classifier_takes_no_backbone():
    with pytest.raises(EffkerasError, match="efficientnet-b0 is not a detector"):
        effkeras.build("b0", backbone="mobilenet-v2")


def assert_same_weights(ours: keras.Layer, theirs: keras.Layer) -> None:
    for own, wanted in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(own, wanted)


@functools.cache
def weighted() -> keras.Model:
    """A model of one's own whose batch normalisation is not at its start."""
    model = own_model()
    draw = np.random.default_rng(0)
    model.set_weights([weight + draw.uniform(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


def test_a_model_with_taps_keeps_its_weights_and_is_copied():
    theirs = weighted()
    before = theirs.get_weights()
    model = effkeras.build(tiny(), backbone=TappedModel(theirs, TAPS))
    runs(model)
    for name in ("c3", "b5"):
        for ours, own in zip(
            model.get_layer(f"backbone_{name}").get_weights(),
            theirs.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, own)
    pixels = images()
    own = keras.Model(theirs.input, theirs.get_layer("r4").output)(pixels)
    ours = keras.Model(model.input, model.get_layer("backbone_r4").output)(pixels)
    np.testing.assert_allclose(ours, own, rtol=1e-6)  # pixels as they are
    model.get_layer("backbone_c3").kernel.assign_add(model.get_layer("backbone_c3").kernel)
    for old, new in zip(before, theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_pixels_are_normalised_on_request():
    tapped = TappedModel(weighted(), TAPS, mean=(127.5,) * 3, std=(127.5,) * 3)
    model = effkeras.build(tiny(), backbone=tapped)
    own = keras.Model(weighted().input, weighted().get_layer("r3").output)(images() / 127.5 - 1)
    ours = keras.Model(model.input, model.get_layer("backbone_r3").output)(images())
    np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "outputs",
    [{"P3": "c3", "P4": "c4", "P5": "c5"}, {"P2": "c2", "P3": "c3"}, {"stage_3": "c3", "stage_4": "c4"}],
)
def test_outputs_by_level_are_taps(outputs):
    model = effkeras.build(tiny(), backbone=own_model(**outputs))
    wanted = tuple(f"r{key[-1]}" for key in outputs if key != "P2")
    assert spec_of(model).network.taps == wanted
    runs(model)


def test_a_list_of_outputs_starts_at_level_3():
    maps = own_model(P3="c3", P4="c4").outputs
    theirs = (
        keras.Model(maps[0]._keras_history.operation.input, maps) if False else own_model(P3="c3", P4="c4")
    )
    listed = keras.Model(theirs.inputs, list(theirs.outputs))
    assert spec_of(effkeras.build(tiny(), backbone=listed)).network.taps == ("r3", "r4")


@pytest.mark.slow
def test_a_keras_cv_backbone_names_its_taps(tmp_path):
    from keras_cv.models import ResNetBackbone

    theirs = ResNetBackbone(
        stackwise_filters=[16, 24, 32, 48],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=True,
    )
    model = effkeras.build(tiny(), backbone=theirs)
    levels = ("P3", "P4", "P5")
    assert spec_of(model).network.taps == tuple(theirs.pyramid_level_inputs[level] for level in levels)
    name = theirs.pyramid_level_inputs["P4"]
    own = keras.Model(theirs.input, theirs.get_layer(name).output)(images())
    ours = keras.Model(model.input, model.get_layer(f"backbone_{name}").output)(images())
    np.testing.assert_allclose(ours, own, rtol=1e-5, atol=1e-5)
    save(model, tmp_path / "model.keras")
    wanted = runs(model)
    np.testing.assert_allclose(runs(load(tmp_path / "model.keras"))["box_deltas"], wanted["box_deltas"])


def test_a_layer_that_cannot_be_copied_is_named():
    class Own(L.Layer):
        def __init__(self, factor):
            super().__init__(name="mine")
            self.factor = factor

        def call(self, x):
            return x * self.factor

    x = keras.Input((64, 64, 3))
    theirs = keras.Model(x, {"P3": L.AveragePooling2D(8)(Own(2)(x))})
    with pytest.raises(EffkerasError, match=r"the layer 'mine' \(Own\) cannot be copied"):
        effkeras.build(tiny(), backbone=theirs)


def test_a_function_keeps_what_it_refers_to():
    factor = 3.0
    x = keras.Input((64, 64, 3))
    theirs = keras.Model(x, {"P3": L.AveragePooling2D(8, name="p")(L.Lambda(lambda y: y * factor)(x))})
    model = effkeras.build(tiny(), backbone=theirs)
    ours = keras.Model(model.input, model.get_layer("backbone_p").output)(images())
    np.testing.assert_allclose(ours, theirs(images())["P3"], rtol=1e-6)


def test_a_model_of_fixed_size_is_built_at_the_detectors():
    model = effkeras.build(tiny((96, 64)), backbone=TappedModel(own_model((32, 32)), TAPS))
    assert model.get_layer("backbone_r3").output.shape[1:3] == (12, 8)


def test_nested_models_are_taken_apart():
    inner = own_model(P3="c3", P4="c4", P5="c5")
    x = keras.Input((None, None, 3))
    model = effkeras.build(tiny(), backbone=keras.Model(x, inner(L.Rescaling(1 / 255)(x))))
    assert spec_of(model).network.taps == ("own_r3", "own_r4", "own_r5")
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: own_model(), r"'own' names maps of levels \[\] and a detector needs 3 to 5"),
        (lambda: own_model(P4="c4", P5="c5"), r"maps of levels \[4, 5\]"),
        (lambda: TappedModel(own_model(), {3: "r3", 5: "r5"}), r"maps of levels \[3, 5\]"),
        (lambda: TappedModel(own_model(), {**TAPS, 4: "q4"}), "no layer 'q4' to tap; known: b1"),
        (lambda: TappedModel(own_model(), {3: "r2"}), "map of level 3 is 16 x 16 and a pyramid needs 8 x 8"),
        (lambda: keras.Sequential([L.Conv2D(3, 1)], name="open"), "'open' is not functional"),
    ],
)
def test_models_that_are_no_backbones_are_refused(make, message):
    with pytest.raises(EffkerasError, match=message):
        effkeras.build(tiny(), backbone=make())


def test_a_detector_on_a_model_is_saved_and_loaded(tmp_path):
    model = effkeras.build(tiny(), backbone=TappedModel(weighted(), TAPS))
    save(model, tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert spec_of(again) == spec_of(model)
    for name, wanted in runs(model).items():
        np.testing.assert_allclose(runs(again)[name], wanted, rtol=1e-5, atol=1e-6)


def test_its_definition_alone_builds_nothing(tmp_path):
    spec = spec_of(effkeras.build(tiny(), backbone=TappedModel(weighted(), TAPS)))
    table = spec.to_table()
    assert spec_from_table(table, "here") == spec
    (tmp_path / "model.toml").write_text(spec.to_toml())
    assert effkeras.spec(tmp_path) == spec
    with pytest.raises(EffkerasError, match=r"load that with effkeras\.load"):
        build_spec(spec)
    with pytest.raises(EffkerasError, match="cannot be counted from its definition"):
        count(spec)


@pytest.mark.parametrize("name", ["model.keras", ""])
def test_a_saved_model_gives_network_and_weights_and_says_so(name, tmp_path, caplog):
    """A run folder, and a .keras file; its definition is not in the zoo."""
    source = tiny_classifier().replace(classes=5, labels=())
    network = dataclasses.replace(source.network, blocks=effkeras.spec("efficientnet-digits").network.blocks)
    source = source.replace(network=network)
    donor = build_spec(source)
    donor.set_weights([weight + 0.1 for weight in donor.get_weights()])
    save(donor, tmp_path / "model.keras")
    (tmp_path / "model.toml").write_text(source.to_toml())
    with caplog.at_level(logging.WARNING, "effkeras"):
        model = effkeras.build(tiny(), backbone=tmp_path / name)
    assert spec_of(model).backbone == "tiny-classifier"
    for layer in backbone_layers(spec_of(model)):
        assert_same_weights(model.get_layer(layer), donor.get_layer(layer))
    assert "has the weights of" in caplog.text
    other = effkeras.build(tiny(), backbone=source, weights=tmp_path / name)  # the same, as weights
    assert_same_weights(other.get_layer("stem_conv"), donor.get_layer("stem_conv"))


def test_a_model_of_ours_gives_network_and_weights():
    donor = effkeras.build("mobilenet-v2-0.35", input_shape=(64, 64), classes=5)
    donor.set_weights([weight + 0.1 for weight in donor.get_weights()])
    model = effkeras.build(tiny(), backbone=donor)
    assert spec_of(model) == with_backbone(tiny(), "mobilenet-v2-0.35")
    for name in backbone_layers(spec_of(model)):
        assert_same_weights(model.get_layer(name), donor.get_layer(name))


def test_a_donor_of_another_width_is_refused():
    donor = effkeras.build("mobilenet-v2-0.35", input_shape=(64, 64))
    with pytest.raises(EffkerasError, match=r"do not fit layer 'block.*': .* cannot be scaled"):
        effkeras.build(tiny(), backbone=donor, width=2.0)


def test_a_detector_gives_the_model_that_it_is_built_on():
    first = effkeras.build(tiny(), backbone=TappedModel(weighted(), TAPS))
    second = effkeras.build(tiny((96, 96)), backbone=first, classes=2)
    assert spec_of(second).network == spec_of(first).network
    assert_same_weights(second.get_layer("backbone_b4"), weighted().get_layer("b4"))


@pytest.mark.slow
def test_a_detector_on_a_model_is_trained_as_a_run(digits, tmp_path):
    """Through the same loop; interrupted or not, the result is in the run folder."""
    detector = effkeras.build(tiny(), backbone=TappedModel(weighted(), TAPS))
    settings = TrainSettings(epochs=1, batch=8, validation_images=8, freeze="backbone")
    data = open_data(digits, "train"), open_data(digits, "val")
    result = train(Job(spec_of(detector), *data, settings, tmp_path / "run", model=detector))
    assert spec_of(result).classes == 10
    assert_same_weights(result.get_layer("backbone_c2"), weighted().get_layer("c2"))
    assert spec_of(load(tmp_path / "run")) == spec_of(result)
    assert (tmp_path / "run" / "results.jsonl").is_file()
    with pytest.raises(EffkerasError, match=r"load that with effkeras\.load"):
        train(Job(spec_of(detector), *data, settings, tmp_path / "alone"))


@pytest.mark.parametrize(
    "backbone",
    ["mobilenet-v2-0.35", "squeezenet-1.1", TappedModel, pytest.param("mobilenet", marks=pytest.mark.slow)],
)
def test_frozen_is_the_network_and_nothing_else(backbone):
    given = TappedModel(weighted(), TAPS) if backbone is TappedModel else backbone
    model = effkeras.build(tiny(), backbone=given)
    spec = spec_of(model)
    own = backbone_layers(spec) if backbone is not TappedModel else set()
    frozen = {layer.name for layer in frozen_layers(model, spec, "backbone")}
    for layer in model.layers:
        if layer.weights:
            is_network = layer.name in own or layer.name.startswith("backbone_")
            assert (layer.name in frozen) is is_network, layer.name
