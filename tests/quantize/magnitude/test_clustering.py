from __future__ import annotations

import keras
import numpy as np
import pytest
from support.small_nets import examples, nested, plain, two_heads
from support.tiny_models import keras_outputs, random_images, tiny_model

import effkeras
from effkeras import EffkerasError
from effkeras.layers.normalize import spec_of
from effkeras.weights.keras_files import save
from quantize import cluster, prune
from quantize.magnitude.clustering import ClusterHook, finish_clustering
from quantize.magnitude.selection import CHOSEN
from quantize.specs import ClusterSpec, PruneSpec

FEW = ClusterSpec(clusters=8, skip=())
LAYERS = ("first", "second", "hidden", "scores")


def kernels(model: keras.Model, names: tuple[str, ...] = LAYERS) -> list[np.ndarray]:
    return [np.array(model.get_layer(name).kernel) for name in names]


def weights(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.weights]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(map(np.array_equal, one, other))


def compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> keras.Model:
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
    return model


def fit(model: keras.Model, *hooks: keras.callbacks.Callback, epochs: int = 2, first: int = 0) -> None:
    model.fit(
        *examples(),
        batch_size=4,
        epochs=epochs,
        initial_epoch=first,
        shuffle=False,
        verbose=0,
        callbacks=list(hooks),
    )


@pytest.mark.parametrize("start", ["linear", "density", "kmeans++"])
def test_kernels_get_few_values_and_the_model_stays(start):
    model = two_heads()
    before = weights(model)
    made = cluster(model, ClusterSpec(clusters=5, start=start))
    assert same(before, weights(model))
    assert {layer.name for layer in made.report.done} == {"expand", "separable", "enlarge", "hidden"}
    for layer in made.report.done:
        (kernel,) = (
            w for w in made.model.get_layer(layer.name).weights if w.name in ("kernel", "pointwise_kernel")
        )
        assert len(np.unique(kernel)) <= 5
        assert 0 < layer.error < 0.5
    assert made.report.figures["clusters"] <= 5
    assert made.report.figures["gzipped_bytes"] < made.report.figures["gzipped_before"]
    made.report.check_strict(CHOSEN)


def test_depthwise_kernels_are_clustered_on_request():
    made = cluster(two_heads(), ClusterSpec(clusters=4, depthwise=True, skip=()))
    assert made.report.skipped == ()
    separable = made.model.get_layer("separable")
    assert len(np.unique(separable.depthwise_kernel)) <= 4
    assert len(np.unique(made.model.get_layer("depthwise").kernel)) <= 4


def test_errors_are_shares_of_the_norm_and_shrink_with_more_values():
    model = plain()
    errors = []
    for clusters in (4, 16, 64):
        made = cluster(model, ClusterSpec(clusters=clusters, skip=()))
        before, after = kernels(model, ("hidden",))[0], kernels(made.model, ("hidden",))[0]
        found = next(layer.error for layer in made.report.done if layer.name == "hidden")
        assert found == pytest.approx(np.linalg.norm(before - after) / np.linalg.norm(before))
        errors.append(found)
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_what_was_pruned_stays_pruned_and_nothing_else_is():
    pruned = prune(plain(), PruneSpec(pattern="2:4", skip=())).model
    made = cluster(pruned, FEW).model
    for before, after in zip(kernels(pruned), kernels(made), strict=True):
        np.testing.assert_array_equal(before != 0, after != 0)
        assert len(np.unique(after)) <= 8


def test_two_clusters_cannot_hold_zeros_and_both_signs():
    pruned = prune(plain(), PruneSpec(skip=("first",))).model
    report = cluster(pruned, ClusterSpec(clusters=2, skip=())).report
    assert [layer.name for layer in report.done] == ["first"]
    assert {layer.why for layer in report.skipped} == {"its zeros and other weights need 3 clusters"}


@pytest.mark.slow
def test_our_networks_stay_plain_and_load_again(tmp_path):
    model = tiny_model("efficientnet-b0")
    made = cluster(model).model
    assert [type(layer) for layer in made.layers] == [type(layer) for layer in model.layers]
    assert spec_of(made) == spec_of(model)
    save(made, tmp_path / "clustered.keras")
    again = keras_outputs(effkeras.load(tmp_path / "clustered.keras"), random_images(2))
    for output, values in keras_outputs(made, random_images(2)).items():
        np.testing.assert_array_equal(values, again[output])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ClusterSpec(clusters=1), "cluster: clusters must be at least 2, not 1"),
        (ClusterSpec(start="random"), "cluster: start must be one of linear, density, kmeans"),
        (ClusterSpec(skip=("hiden",)), "did you mean 'hidden'"),
        (ClusterSpec(skip=("",)), "nothing in 'plain' can be changed"),
    ],
)
def test_what_cannot_be_is_refused(spec, message):
    with pytest.raises(EffkerasError, match=message):
        cluster(plain(), spec)


def test_weights_that_are_not_numbers_are_named():
    model = plain()
    model.get_layer("second").kernel.assign(np.full((1, 1, 8, 16), np.nan))
    with pytest.raises(EffkerasError, match="second/kernel of 'plain' is not finite"):
        cluster(model)


def test_training_moves_the_values_and_keeps_the_clusters():
    original = plain()
    pruned = prune(original, PruneSpec(skip=())).model
    model = compiled(cluster(pruned, FEW).model)
    before, loss = kernels(model), model.evaluate(*examples(), verbose=0)
    fit(model, ClusterHook(FEW))
    for old, new, zeros in zip(before, kernels(model), kernels(pruned), strict=True):
        assert not np.array_equal(old, new)
        np.testing.assert_array_equal(new != 0, zeros != 0)
        pairs = np.unique(np.stack([old.ravel(), new.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(old)) <= 8
    assert model.evaluate(*examples(), verbose=0) < loss
    report = finish_clustering(pruned, model, FEW).report
    assert report.figures["clusters"] <= 8
    assert [layer.name for layer in report.done] == list(LAYERS)


def test_a_value_moves_by_the_mean_of_its_weights_gradients():
    image = keras.Input((6,))
    layer = keras.layers.Dense(2, use_bias=False, name="only")
    model = keras.Model(image, layer(image))
    kernel = np.array([[1, 1], [1, 2], [2, 2], [0, 0], [0, 2], [1, 0]], np.float32)
    layer.kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(4, 6)).astype(np.float32), random.normal(size=(4, 2)).astype(np.float32)
    gradient = 2 * x.T @ (x @ kernel - y) / y.size
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[ClusterHook(ClusterSpec(clusters=3, skip=()))])
    wanted = {value: value - 0.1 * gradient[kernel == value].mean() for value in (1, 2)} | {0: 0.0}
    np.testing.assert_allclose(layer.kernel, np.vectorize(wanted.get)(kernel), rtol=1e-5)


def test_resuming_is_the_same_to_the_bit():
    start = cluster(plain(), FEW).model

    def fresh() -> tuple[keras.Model, ClusterHook]:
        model = compiled(keras.models.clone_model(start))
        model.set_weights(start.get_weights())
        model.optimizer.build(model.trainable_variables)
        hook = ClusterHook(FEW)
        hook.attach(model, 12)
        return model, hook

    def state(model: keras.Model, hook: ClusterHook) -> list[keras.Variable]:
        return [*model.variables, *model.optimizer.variables, *hook.state()]

    whole, half, rest = fresh(), fresh(), fresh()
    fit(*whole)
    fit(*half, epochs=1)
    for variable, value in zip(state(*rest), state(*half), strict=True):
        variable.assign(value)
    fit(*rest, first=1)
    assert same([np.array(v) for v in state(*rest)], [np.array(v) for v in state(*whole)])


def test_an_average_is_settled_into_the_same_clusters():
    model = compiled(cluster(plain(), FEW).model)
    hook = ClusterHook(FEW)
    fit(model, hook, epochs=1)
    average = plain()
    hook.finalize(average)
    for one, other in zip(kernels(model), kernels(average), strict=True):
        assert len(np.unique(other)) == len(np.unique(one))
        assert len(np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T) == len(np.unique(one))
    settled = kernels(average)
    hook.finalize(average)
    assert same(settled, kernels(average))


def test_a_model_that_is_not_clustered_is_refused():
    with pytest.raises(
        EffkerasError, match="'first' has 216 distinct weights, more than 8; cluster the model"
    ):
        fit(compiled(plain()), ClusterHook(FEW))


def test_nested_models_become_flat():
    made = cluster(nested(), FEW)
    assert [layer.name for layer in made.report.done] == ["features_first", "features_second", "head_scores"]
