"""The worker process with Keras 2 that runs tensorflow-model-optimization.

`python -m quantize.tfmot.worker FOLDER` reads `task.json` and `weights.npz` there, builds the model, and
tries to wrap it. It writes to stdout, one JSON record per line, that it is ready or why it refuses. It then
waits on stdin for "go"; by then, `images.npy` and `labels.npy` exist. It trains, writes `result.npz` and,
after quantization-aware training, `model.tflite`. It ends when stdin closes, because its parent has ended.

Only this module may import tensorflow-model-optimization, which changes the Keras of its process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

EVENT = "event"
GO = "go"
LONGEST = 300

Table = dict[str, Any]
Model = Any
# The names of each layer's weights, in the order of both Keras versions.
Order = dict[str, list[str]]


def main(folder: Path) -> int:
    """Runs the task in a folder; returns 0 when done, 3 if the model is refused, 1 without "go"."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    try:
        model = build(task["graph"], _arrays(folder / "weights.npz"))
        order = {layer.name: [_short(one) for one in layer.weights] for layer in model.layers}
        wrapped = WRAPPERS[task["step"]](model, task)
    except Exception as error:  # any error is the tool's reason
        say("refused", why=reason(error))
        return 3
    say("ready")
    if sys.stdin.readline().strip() != GO:
        return 1
    _end_with_parent()
    train(wrapped, task, folder)
    finish(wrapped, order, task, folder)
    say("done")
    return 0


def say(event: str, **details: Any) -> None:
    """Prints one record for the parent."""
    print(json.dumps({EVENT: event, **details}), flush=True)


def reason(error: Exception) -> str:
    """An error as one line: its first sentence, without object addresses."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", text)
    text = re.sub(r"<[\w.]*?(\w+) object at 0x[0-9a-f]+>", r"\1", text)
    text = re.sub(r":(?=\w)", ": ", text)
    return text.partition(". ")[0][:LONGEST]


def build(graph: Table, weights: dict[str, np.ndarray]) -> Model:
    """Builds the Keras 2 model described by `quantize.tfmot.graph`, with its weights."""
    import tf_keras

    layers = {name: _layer(tf_keras.layers, one) for name, one in graph["layers"].items()}
    tensors = [tf_keras.Input(tuple(graph["input"]), name="image")]
    for call in graph["calls"]:
        inputs = [tensors[number] for number in call["inputs"]]
        tensors.append(layers[call["layer"]](inputs if len(inputs) > 1 else inputs[0]))
    for name, layer in layers.items():
        layer.set_weights([weights[f"{name}/{number}"] for number in range(len(layer.weights))])
    return tf_keras.Model(tensors[0], tensors[graph["output"]])


def prune(model: Model, task: Table) -> Model:
    """The model with pruning wrappers around the task's layers."""
    import tensorflow_model_optimization as tfmot

    spec, total = task["spec"], task["steps"]
    kinds, begin = tfmot.sparsity.keras, int(spec["begin"] * total)
    if spec["schedule"] == "constant":
        schedule = kinds.ConstantSparsity(spec["sparsity"], begin, frequency=spec["every"])
    else:
        end = max(begin + 1, int(spec["end"] * total))
        schedule = kinds.PolynomialDecay(
            spec["start"], spec["sparsity"], begin, end, power=spec["power"], frequency=spec["every"]
        )
    pattern = task["pattern"].items()
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in pattern}
    return _wrapped(model, task, lambda one: kinds.prune_low_magnitude(one, schedule, **options))


def cluster(model: Model, task: Table) -> Model:
    """The model with clustering wrappers around the task's layers."""
    import tensorflow_model_optimization as tfmot

    kinds, spec = tfmot.clustering.keras, task["spec"]
    starts = kinds.CentroidInitialization
    start = {
        "linear": starts.LINEAR,
        "density": starts.DENSITY_BASED,
        "kmeans++": starts.KMEANS_PLUS_PLUS,
    }[spec["start"]]
    options = {"number_of_clusters": spec["clusters"], "cluster_centroids_init": start}
    return _wrapped(model, task, lambda one: kinds.cluster_weights(one, **options))


def quantize(model: Model, task: Table) -> Model:
    """The model with fake quantization by the tool's default 8-bit scheme in the task's layers."""
    import tensorflow_model_optimization as tfmot

    kinds = tfmot.quantization.keras
    annotated = _wrapped(model, task, kinds.quantize_annotate_layer)
    if task["has_zeros"] and task["spec"]["keep_zeros"]:
        scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
        return kinds.quantize_apply(annotated, scheme)
    return kinds.quantize_apply(annotated)


WRAPPERS: dict[str, Callable[[Model, Table], Model]] = {"prune": prune, "cluster": cluster, "qat": quantize}


def train(model: Model, task: Table, folder: Path) -> None:
    """Trains on the folder's images, and reports each step."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    tune, total = task["tune"], task["steps"]
    tf_keras.utils.set_random_seed(tune["seed"])
    rate = tf_keras.optimizers.schedules.CosineDecay(tune["learning_rate"], total)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=task["from_logits"])
    model.compile(tf_keras.optimizers.Adam(rate, global_clipnorm=10.0), loss=loss)
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()] if task["step"] == "prune" else []
    counted = iter(range(1, total + 1))
    callbacks.append(
        tf_keras.callbacks.LambdaCallback(
            on_batch_end=lambda batch, logs: say("step", at=next(counted, total), loss=float(logs["loss"]))
        )
    )
    model.fit(_batches(folder, tune), epochs=tune["epochs"], verbose=0, callbacks=callbacks)


def finish(wrapped: Model, order: Order, task: Table, folder: Path) -> None:
    """Writes the weights without wrappers, under their original names, and the artifact if there is one.

    `order` holds the names of each layer's weights before wrapping, because wrappers move some of them.
    """
    values = dict(_stripped(wrapped, task["step"]))
    found = {
        f"{layer}/{number}": values[layer, weight]
        for layer, weights in order.items()
        for number, weight in enumerate(weights)
    }
    if task["step"] == "qat":
        _write(folder / "model.tflite", lambda path: path.write_bytes(converted(wrapped, task["io"])))
    _write(folder / "result.npz", lambda path: np.savez(path, **found))  # type: ignore[arg-type]


def converted(model: Model, io: str) -> bytes:
    """Converts a fake-quantized model to an int8 flatbuffer with batch size 1."""
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input(batch_shape=(1, *model.input_shape[1:]), name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(tf_keras.Model(image, model(image)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    return converter.convert()


def _layer(kinds: Any, described: Table) -> Any:
    kind = getattr(kinds, described["class"], None)
    if kind is None:
        raise ValueError(f"Keras 2 has no layer {described['class']} ({described['config']['name']})")
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in _settings(described)}
    return kind.from_config(config)


def _settings(described: Table) -> Iterator[tuple[str, Any]]:
    for name, value in described["config"].items():
        is_axis = name == "axis" and isinstance(value, list)
        yield name, value[0] if is_axis else value


def _wrapped(model: Model, task: Table, wrap: Callable[[Any], Any]) -> Model:
    import tf_keras

    chosen = set(task["layers"])
    return tf_keras.models.clone_model(
        model, clone_function=lambda layer: wrap(layer) if layer.name in chosen else layer
    )


def _stripped(wrapped: Model, step: str) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """The weights by layer and name; quantized layers stay in wrappers, named `quant_...`."""
    import tensorflow_model_optimization as tfmot

    sparsity, clustering = tfmot.sparsity.keras, tfmot.clustering.keras
    strip = {"prune": sparsity.strip_pruning, "cluster": clustering.strip_clustering}.get(step)
    for layer in (strip(wrapped) if strip else wrapped).layers:
        for weight in layer.weights:
            yield (layer.name.removeprefix("quant_"), _short(weight)), weight.numpy()


def _short(weight: Any) -> str:
    """The last part of a weight's name: kernel, bias, gamma, ..."""
    return weight.name.rpartition("/")[2].partition(":")[0]


def _batches(folder: Path, tune: Table) -> Any:
    import tf_keras

    pixels = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    size = tune["batch"]

    class Batches(tf_keras.utils.Sequence):
        """Batches in a new order each epoch."""

        def __init__(self) -> None:
            self.random = np.random.default_rng(tune["seed"])
            self.on_epoch_end()

        def __len__(self) -> int:
            return len(labels) // size

        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = np.sort(self.order[number * size : (number + 1) * size])
            return pixels[chosen].astype(np.float32), labels[chosen]

        def on_epoch_end(self) -> None:
            self.order = self.random.permutation(len(labels))

    return Batches()


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file completely or not at all."""
    temporary = path.with_name(f"unfinished-{path.name}")
    write(temporary)
    temporary.replace(path)


def _end_with_parent() -> None:
    def watch() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
