"""Supernets: a path is the network that it stands for, and training shares what it should."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from short_trials import BlockSpace, block_net
from tiny import tiny_detector

from effkeras.errors import EffkerasError
from effkeras.models import build_spec
from effkeras.search.evaluation.pictures import Pictures, open_splits
from effkeras.search.evaluation.protocol import Candidate
from effkeras.search.evaluation.settings import EvaluationSettings
from effkeras.search.evaluation.shared_net import SharedNet
from effkeras.search.evaluation.supernet import Supernet, SupernetPaths
from effkeras.search.evaluation.weight_bank import WeightBank, shared_names, shared_shapes
from effkeras.search.genomes import all_genomes

SETTINGS = EvaluationSettings(kind="supernet", batch=12, supernet_epochs=2)
SMALL, LARGE = (0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1)


@pytest.fixture(scope="module")
def pictures(digit_classes):
    return Pictures(open_splits(digit_classes))


@pytest.fixture(scope="module")
def supernet(pictures):
    made = Supernet(BlockSpace(), pictures, SETTINGS)
    made.epoch()
    return made


def test_the_shared_weights_are_the_largest_of_all_networks(supernet):
    specs = [supernet.spec(genome) for genome in all_genomes(BlockSpace())]
    for spec in specs:
        for name, shape in shared_shapes(spec).items():
            assert supernet.bank.part(name, shape).shape == shape
    largest = sum(int(np.prod(shape)) for shape in shared_shapes(supernet.spec(LARGE)).values())
    assert sum(int(tf.size(one)) for one in supernet.bank.variables) == largest


def test_a_part_is_the_middle_of_the_window_and_the_first_channels():
    bank = WeightBank([block_net("r1_k5_s1_e1_i8_o8"), block_net("r1_k3_s1_e1_i8_o8")])
    name = ("level1_stage1_repeat0_depthwise_conv", "kernel")
    whole, part = bank.part(name, (5, 5, 8, 1)), bank.part(name, (3, 3, 6, 1))
    np.testing.assert_array_equal(part, whole[1:4, 1:4, :6])


def test_blocks_share_their_place_not_their_number():
    rename = shared_names(block_net("r2_k3_s1_e1_i8_o8", "r1_k3_s2_e3_i8_o16", "r2_k3_s1_e3_i16_o16"))
    names = [rename(f"block{i}_expand_conv").removesuffix("_expand_conv") for i in range(5)]
    assert names == [
        "level1_stage1_repeat0",
        "level1_stage1_repeat1",
        "level2_stage0_repeat0",
        "level2_stage1_repeat0",
        "level2_stage1_repeat1",
    ]
    assert rename("stem_conv") == "stem_conv"


@pytest.mark.parametrize("genome", [SMALL, LARGE, (1, 0, 1, 0, 1, 0)])
def test_a_path_is_the_network_with_parts_of_the_shared_weights(supernet, pictures, genome):
    """The built Keras model with the same weights and statistics puts out the same."""
    spec, path = supernet.spec(genome), supernet.predictor(genome)
    model, rename = build_spec(spec), shared_names(spec)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name.startswith("moving"):
                value = path.statistics[layer.name][weight.name == "moving_variance"]
            elif "seed" not in weight.path:
                value = supernet.bank.part((rename(layer.name), weight.name), tuple(weight.shape))
            weight.assign(value)
    pixels = pictures.validation(spec)[0].pixels
    np.testing.assert_allclose(
        path(pixels)["probabilities"], model.predict_on_batch(pixels), rtol=1e-3, atol=1e-5
    )


def test_the_statistics_are_the_means_of_the_path_itself(supernet, pictures):
    spec, path = supernet.spec(SMALL), supernet.predictor(SMALL)
    pixels = pictures.training(spec)[0].numpy()[np.random.default_rng(0).permutation(24)].astype(np.float32)
    kernel = supernet.bank.part(("stem_conv", "kernel"), (3, 3, 3, 8))
    normal = (pixels - np.array(spec.input.mean)) / np.array(spec.input.std)
    maps = tf.nn.conv2d(normal.astype(np.float32), kernel, 2, "SAME").numpy()
    halves = maps.reshape(2, 12, *maps.shape[1:])
    mean, variance = path.statistics["stem_bn"]
    np.testing.assert_allclose(mean, maps.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(variance, halves.var((1, 2, 3)).mean(0), rtol=1e-3)


def test_a_step_trains_the_path_alone(pictures):
    bank = WeightBank([block_net("r1_k3_s2_e3_i8_o16"), block_net("r2_k5_s2_e3_i8_o16")])
    spec = block_net("r1_k3_s2_e3_i8_o16")
    net = SharedNet(bank, shared_names(spec), training=True)
    from effkeras.graph.backbone import classifier

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(classifier(net, tf.random.normal((4, 32, 32, 3)), spec) ** 2)
    gradients = dict(zip(sorted(bank.names), tape.gradient(loss, bank.variables), strict=True))
    window = gradients["level2_stage0_repeat0_depthwise_conv", "kernel"].numpy()
    assert np.abs(window[1:4, 1:4]).max() > 0
    assert np.abs(window).sum() == pytest.approx(np.abs(window[1:4, 1:4]).sum())
    assert gradients["level2_stage0_repeat1_depthwise_conv", "kernel"] is None


class StoppedError(Exception):
    pass


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(pictures, tmp_path, monkeypatch):
    whole = SupernetPaths(BlockSpace(), pictures, SETTINGS, tmp_path / "whole").trained()

    def stop(self):
        if self.epochs == 1:
            raise StoppedError
        return own(self)

    own = Supernet.epoch
    monkeypatch.setattr(Supernet, "epoch", stop)
    with pytest.raises(StoppedError):
        SupernetPaths(BlockSpace(), pictures, SETTINGS, tmp_path / "parts").trained()
    monkeypatch.undo()
    resumed = SupernetPaths(BlockSpace(), pictures, SETTINGS, tmp_path / "parts").trained()
    assert resumed.epochs == 2
    for one, other in zip(whole.state(), resumed.state(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_candidates_are_paths_of_one_training(pictures, tmp_path, monkeypatch):
    evaluate = SupernetPaths(BlockSpace(), pictures, SETTINGS, tmp_path)
    told = []
    first = evaluate(Candidate(LARGE, 0), lambda step, accuracy: told.append((step, accuracy)))
    monkeypatch.setattr(Supernet, "epoch", None)  # nothing is trained again, here or in another process
    again = SupernetPaths(BlockSpace(), pictures, SETTINGS, tmp_path)(Candidate(LARGE, 9), lambda *_: None)
    assert first == again
    assert told == [(1, first.accuracy)]
    large, small = (evaluate.costs(Candidate(genome, 0))["parameters"] for genome in (LARGE, SMALL))
    assert large > small


def test_a_supernet_of_another_space_is_refused(pictures, tmp_path):
    class Other(BlockSpace):
        digest = "f" * 16

    SupernetPaths(BlockSpace(), pictures, SETTINGS, tmp_path).trained()
    with pytest.raises(EffkerasError, match="of another space or other settings"):
        SupernetPaths(Other(), pictures, SETTINGS, tmp_path).trained()


def test_a_path_that_is_too_large_is_refused():
    bank = WeightBank([block_net("r1_k3_s2_e3_i8_o16")])
    with pytest.raises(EffkerasError, match="larger than all of them"):
        bank.part(("stem_conv", "kernel"), (3, 3, 3, 9))
    with pytest.raises(EffkerasError, match="the supernet has no nothing"):
        bank.part(("nothing", "kernel"), (1, 1))


def test_a_detector_is_no_supernet():
    with pytest.raises(EffkerasError, match="no classifier of MBConv blocks"):
        shared_names(tiny_detector())
