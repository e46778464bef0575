from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from support.small_nets import examples, nested, plain, two_heads
from support.tiny_models import keras_outputs, random_images, tiny_model

import effkeras
from effkeras import EffkerasError
from effkeras.layers.normalize import spec_of
from effkeras.weights.keras_files import save
from quantize import prune
from quantize.magnitude.pruning import PruneHook, finish_pruning, select_prunable
from quantize.magnitude.selection import CHOSEN
from quantize.magnitude.sparsity import sparsity_of
from quantize.specs import PruneSpec

ALL = PruneSpec(skip=(), scope="layer")


def weights(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.weights]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(map(np.array_equal, one, other))


def compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> keras.Model:
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    return model


def fit(model: keras.Model, *hooks: keras.callbacks.Callback, epochs: int = 4, first: int = 0) -> None:
    """Six steps an epoch, always the same."""
    model.fit(
        *examples(),
        batch_size=4,
        epochs=epochs,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=list(hooks),
    )


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(),
        PruneSpec(pattern="2:4"),
        PruneSpec(sparsity=0.75, pattern="1x4"),
        PruneSpec(sparsity=0.5, pattern="4x1", pooling="max", depthwise=True),
        PruneSpec(scope="global", skip=(), depthwise=True),
        PruneSpec(layers="1x1", skip=()),
    ],
)
def test_sparsity_and_pattern_are_reached_and_the_model_stays(spec):
    model = two_heads()
    before = weights(model)
    pruned = prune(model, spec)
    assert same(before, weights(model))
    found = [one for one in sparsity_of(pruned.model, spec.pattern).kernels if one.zeros]
    assert all(one.follows for one in found)
    assert {one.layer for one in found} == {layer.name for layer in pruned.report.done}
    assert pruned.report.figures["sparsity"] == pytest.approx(spec.sparsity, abs=0.02)


def test_the_report_names_every_layer_with_a_kernel():
    report = prune(two_heads()).report
    assert {layer.name for layer in report.done} == {"expand", "separable", "enlarge", "hidden"}
    assert {layer.name: layer.why for layer in report.skipped} == {
        "first": "left out by skip",
        "depthwise": "depthwise, which is left out unless asked for",
        "boxes": "left out by skip",
        "scores": "left out by skip",
    }
    report.check_strict(CHOSEN)
    with pytest.raises(EffkerasError, match=r"prune: first \(Conv2D\) was skipped"):
        report.check_strict()


def test_errors_are_the_share_of_the_norm_that_went():
    model = plain()
    pruned = prune(model, ALL)
    for layer in pruned.report.done:
        kernel, left = (np.array(one.get_layer(layer.name).kernel) for one in (model, pruned.model))
        assert layer.error == pytest.approx(np.linalg.norm(kernel - left) / np.linalg.norm(kernel))
        assert layer.why == "sparsity 0.500"
    assert pruned.report.figures["gzipped_bytes"] < 0.75 * pruned.report.figures["gzipped_before"]


def test_unless_told_otherwise_one_threshold_serves_all_layers():
    """And layer by layer, where the pattern has no threshold."""
    model = plain()
    done = {
        scope: prune(model, dataclasses.replace(ALL, scope=scope)).report.done
        for scope in ("auto", "global", "layer")
    }
    assert done["auto"] == done["global"] != done["layer"]
    groups = dataclasses.replace(ALL, scope="auto", pattern="2:4", skip=("first", "scores"))
    assert {one.why for one in prune(model, groups).report.done} == {"sparsity 0.500"}


def test_kernels_that_are_too_small_for_the_pattern_are_left_alone():
    report = prune(plain(), PruneSpec(pattern="1x16", skip=())).report
    assert {layer.name: layer.why for layer in report.skipped} == {
        "first": "the block 1x16 is larger than its kernel 3x8",
        "scores": "the block 1x16 is larger than its kernel 24x3",
    }
    with pytest.raises(EffkerasError, match="was skipped: the block 1x16"):
        report.check_strict(CHOSEN)


@pytest.mark.parametrize(
    "name", [pytest.param("efficientdet-d0", marks=pytest.mark.slow), "efficientnet-lite0"]
)
def test_our_networks_stay_plain_and_load_again(name, tmp_path):
    model = tiny_model(name)
    pruned = prune(model, PruneSpec(sparsity=0.3)).model
    assert [type(layer) for layer in pruned.layers] == [type(layer) for layer in model.layers]
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert spec_of(pruned) == spec_of(model)
    save(pruned, tmp_path / "pruned.keras")
    again = effkeras.load(tmp_path / "pruned.keras")
    assert same(weights(again), weights(pruned))
    wanted = keras_outputs(pruned, random_images(2))
    for output, values in keras_outputs(again, random_images(2)).items():
        np.testing.assert_array_equal(values, wanted[output])


def test_nested_models_become_flat():
    pruned = prune(nested(), ALL)
    assert [layer.name for layer in pruned.report.done] == [
        "features_first",
        "features_second",
        "head_scores",
    ]
    assert pruned.report.figures["sparsity"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 1.0}, "prune: sparsity must be at least 0 and below 1, not 1.0"),
        ({"sparsity": -0.1}, "prune: sparsity must be"),
        ({"start": 0.6}, "prune: start must be 0 to sparsity, not 0.6"),
        ({"begin": 0.8}, "prune: end must be a share of the training, from begin to 1, not 0.7"),
        ({"begin": -1.0}, "prune: begin must be"),
        ({"end": 1.5}, "prune: end must be"),
        ({"power": 0.0}, "prune: power must be above 0"),
        ({"every": 0}, "prune: every must be at least 1"),
        ({"schedule": "linear"}, "prune: schedule must be one of polynomial, constant, not 'linear'"),
        ({"scope": "all"}, "prune: scope must be one of auto, layer, global, not 'all'"),
        ({"skip": "stem"}, "prune: skip must be a list, not 'stem'"),
        ({"pattern": "4:4"}, "'4:4' leaves all weights"),
        (
            {"pattern": "2:4", "scope": "global"},
            "prune: 2:4 has no global threshold; give scope auto or layer",
        ),
        ({"pattern": "64x64"}, "nothing in 'plain' can be changed:.*the block 64x64 is larger"),
        ({"skip": ("hiden",)}, "did you mean 'hidden'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(changes, message):
    spec = PruneSpec(**changes)
    with pytest.raises(EffkerasError, match=message):
        prune(plain(), spec)
    with pytest.raises(EffkerasError, match=message):
        PruneHook(spec).attach(plain(), 10)


def test_weights_that_are_not_numbers_are_named():
    model = plain()
    kernel = np.array(model.get_layer("second").kernel)
    kernel[0, 0, 0, 0] = np.nan
    model.get_layer("second").kernel.assign(kernel)
    with pytest.raises(EffkerasError, match="second/kernel of 'plain' is not finite"):
        prune(model)


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec(sparsity=0.8, every=2, skip=()),
        PruneSpec(sparsity=0.6, schedule="constant", every=3, skip=()),
        PruneSpec(pattern="2:4", begin=0.25, skip=("stem",)),
        PruneSpec(sparsity=0.75, pattern="4x1", every=4, skip=("predictors",), scope="layer"),
        PruneSpec(sparsity=0.7, scope="global", every=2, skip=()),
    ],
)
def test_a_training_ends_as_sparse_as_asked_for(spec):
    before = plain()
    model = compiled(keras.models.clone_model(before))
    model.set_weights(before.get_weights())
    fit(model, PruneHook(spec))
    pruned = finish_pruning(before, model, spec)
    found = sparsity_of(pruned.model, spec.pattern)
    assert all(found.kernel(layer.name).follows for layer in pruned.report.done)
    assert pruned.report.figures["sparsity"] == pytest.approx(spec.sparsity, abs=0.02)
    assert all(0 < layer.error < 1 for layer in pruned.report.done)
    assert model.evaluate(*examples(), verbose=0) < before_loss(before)


def before_loss(model: keras.Model) -> float:
    return compiled(model).evaluate(*examples(), verbose=0)


class Watch(keras.callbacks.Callback):
    """Notes the zeros of a layer after every step; comes after the hook."""

    def __init__(self, layer: str):
        super().__init__()
        self.layer = layer
        self.zeros: list[np.ndarray] = []

    def on_train_batch_end(self, batch, logs=None):
        self.zeros.append(np.array(self.model.get_layer(self.layer).kernel) == 0)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.95, nesterov=True),
        lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
    ],
)
def test_momentum_brings_no_pruned_weight_back(optimizer):
    model, watch = compiled(plain(), optimizer()), Watch("hidden")
    spec = dataclasses.replace(ALL, sparsity=0.8, begin=0.3, end=0.8, every=3)
    fit(model, PruneHook(spec), watch)
    shares = [zeros.mean() for zeros in watch.zeros]
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(0.8, abs=0.01)
    for earlier, later in zip(watch.zeros, watch.zeros[1:], strict=False):
        assert (later | ~earlier).all()


def test_resuming_is_the_same_to_the_bit():
    spec = dataclasses.replace(ALL, sparsity=0.8, every=5, end=0.9)
    start = plain()

    def fresh() -> tuple[keras.Model, PruneHook]:
        model = compiled(keras.models.clone_model(start))
        model.set_weights(start.get_weights())
        model.optimizer.build(model.trainable_variables)
        hook = PruneHook(spec)
        hook.attach(model, 4 * 6)
        return model, hook

    def state(model: keras.Model, hook: PruneHook) -> list[keras.Variable]:
        return [*model.variables, *model.optimizer.variables, *hook.state()]

    whole, half, rest = fresh(), fresh(), fresh()
    fit(*whole)
    with pytest.raises(KeyboardInterrupt):
        fit(*half, Interrupt(after=2))
    for variable, value in zip(state(*rest), state(*half), strict=True):
        variable.assign(value)
    fit(*rest, first=2)
    assert same([np.array(v) for v in state(*rest)], [np.array(v) for v in state(*whole)])
    assert sparsity_of(rest[0]).kernel("hidden").share == pytest.approx(0.8, abs=0.01)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.after:
            raise KeyboardInterrupt


def test_an_average_is_settled_by_the_same_masks():
    model = compiled(plain())
    hook = PruneHook(PruneSpec(skip=(), every=2))
    fit(model, hook, epochs=2)
    average = plain()
    hook.finalize(average)
    for name in ("first", "second", "hidden", "scores"):
        left, settled = (np.array(one.get_layer(name).kernel) for one in (model, average))
        np.testing.assert_array_equal(left == 0, settled == 0)


def test_nested_models_are_pruned_where_they_are():
    model = compiled(nested())
    fit(model, PruneHook(dataclasses.replace(ALL, sparsity=0.6, every=2)), epochs=2)
    assert {round(kernel.share, 1) for kernel in sparsity_of(model).kernels} == {0.6}


def test_a_hook_takes_up_another_model():
    hook = PruneHook(dataclasses.replace(ALL, sparsity=0.6, schedule="constant"))
    first, second = compiled(plain()), compiled(nested())
    for model in (first, second):
        fit(model, hook, epochs=1)
        assert {round(kernel.share, 1) for kernel in sparsity_of(model).kernels} == {0.6}


def test_a_training_that_diverges_says_so():
    model = compiled(plain())
    model.get_layer("hidden").kernel.assign(np.full((144, 24), np.inf))
    with pytest.raises(
        EffkerasError, match="diverged: at step 1 the layer 'hidden' has weights that are not"
    ):
        fit(model, PruneHook(ALL))


def test_a_training_of_unknown_length_is_refused():
    model = compiled(plain())

    def endless():
        while True:
            yield examples()

    with pytest.raises(EffkerasError, match="needs to know how long fit trains: give fit steps_per_epoch"):
        model.fit(endless(), shuffle=False, verbose=0, callbacks=[PruneHook(ALL)])


def test_several_steps_at_a_time_are_refused():
    model = plain()
    model.compile("sgd", loss="sparse_categorical_crossentropy", steps_per_execution=2)
    with pytest.raises(EffkerasError, match="compile with steps_per_execution=1"):
        fit(model, PruneHook(ALL))


def test_the_words_hold_for_a_network_of_another_library():
    from effkeras.graph.rewrite import Graph

    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)
    chosen = select_prunable(Graph.of(model), PruneSpec())
    whys = {layer.name: layer.why for layer in chosen.skipped}
    assert whys["Conv1"] == whys["predictions"] == "left out by skip"
    assert len(chosen.targets) == 34
