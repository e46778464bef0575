"""Runs tensorflow-model-optimization in a separate process.

It supports classifiers whose layers exist in Keras 2, such as EfficientNet-Lite; other models are refused
with the tool's reason before any work. It returns weights for a Keras 3 model with the same layers, and
after quantization-aware training also the int8 artifact.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

import quantize
from effkeras.data.classes import matched
from effkeras.data.store import ImageStore
from effkeras.definitions.definition import ModelSpec
from effkeras.graph.rewrite import Graph, check_finite, rewrite
from effkeras.layers.normalize import spec_of
from effkeras.litert.rewriting import attach, name_interface
from effkeras.litert.runner import DEFINITION
from effkeras.support.console import note, progress, track
from effkeras.support.errors import EffkerasError
from effkeras.training.pipeline import BatchSpec, training_batches
from quantize.distillation import meaning
from quantize.magnitude.sparsity import relative_change, sparsity_of
from quantize.report import Compressed, LayerReport, StepReport
from quantize.specs import TuneSpec
from quantize.splits import StepTraining
from quantize.steps.step import TFMOT, TfmotStep
from quantize.tfmot.graph import Table, described, weights_of, with_weights_from

WORKER = "quantize.tfmot.worker"
PATIENCE = 10  # seconds to wait until a worker ends by itself
ERROR_IS = "norm of the change / norm of the weights"

Step = TfmotStep[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """The tool's result: a model with a report, and after quantization-aware training an int8 flatbuffer."""

    compressed: Compressed
    flatbuffer: bytes | None = None


def run_tfmot(
    model: keras.Model, step: Step, training: StepTraining, io: Literal["float32", "int8"] = "float32"
) -> Made:
    """Prunes, clusters or quantizes a classifier with tensorflow-model-optimization while it trains.

    The tool cannot resume an interrupted training. Images are augmented once; each epoch uses a new order.

    Args:
        model: a functional Keras classifier with one input.
        step: the step of a recipe, with its options.
        training: images and training settings.
        io: the type of the artifact's input and output.

    Returns:
        The model with new weights, in float32 and without wrappers, and a report with an entry per layer
        that has a kernel.

    Raises:
        EffkerasError: the tool refuses the model, its process ends early, or the training diverges.
    """
    graph, task = _prepared(model, step, training.tune)
    definition = training.spec or spec_of(model)
    train = matched(training.train, definition)
    with _work_folder() as folder:
        store = ImageStore(train, definition.input)
        steps = max(1, len(store) // training.tune.batch)
        task |= {"steps": training.settings.total_steps(steps), "io": io}
        with _Worker(folder, graph, task) as worker:
            worker.expect_ready()
            _write_images(folder, store, definition, training)
            worker.finish(task["steps"])
        after = rewrite(graph, {})
        with np.load(folder / "result.npz", allow_pickle=False) as found:
            with_weights_from(after, found)
        flatbuffer = _artifact(folder / "model.tflite", graph.model, definition)
    return Made(Compressed(after, _report(graph, after, step)), flatbuffer)


def check_tfmot(model: keras.Model, step: Step) -> None:
    """Raises EffkerasError with the tool's reason if it does not support a step on a model."""
    graph, task = _prepared(model, step, TuneSpec())
    task |= {"steps": 1, "io": "float32"}
    with _work_folder() as folder, _Worker(folder, graph, task) as worker:
        worker.expect_ready()


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="effkeras-tfmot-") as name:
        yield Path(name)


class _Worker:
    """The worker process; it never outlives the `with` block."""

    def __init__(self, folder: Path, graph: Graph, task: Table):
        self._folder = folder
        self._verb = task["verb"]
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        np.savez(folder / "weights.npz", **weights_of(graph))  # type: ignore[arg-type]

    def __enter__(self) -> _Worker:
        with (self._folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
            )
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # the worker then ends
        try:
            self._process.wait(0 if error[0] else PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def expect_ready(self) -> None:
        """Waits until the model is built and wrapped; EffkerasError with the reason if it is refused."""
        note(f"{TFMOT}: starting")
        event = next(self._events(), {})
        if event.get("event") == "refused":
            raise EffkerasError(f"{TFMOT} cannot {self._verb} this model: {event['why']}")
        if event.get("event") != "ready":
            raise self._ended()

    def finish(self, steps: int) -> None:
        """Starts the training and shows its progress; EffkerasError if the worker ends early."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the events tell that it has ended
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        last = {}
        with progress() as bar:
            shown = bar.add_task(f"{TFMOT}: tracing", total=steps)
            for event in self._events():
                last = event
                if event["event"] == "step":
                    text = f"{TFMOT}: loss {event['loss']:.3f}"
                    bar.update(shown, completed=event["at"], description=text)
        if last.get("event") != "done":
            raise self._ended()

    def _events(self) -> Iterator[Table]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # TensorFlow also prints
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event

    def _ended(self) -> EffkerasError:
        code = self._process.wait()
        lines = (self._folder / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return EffkerasError(f"{TFMOT}'s process {how}: {last[:300]}")


def _prepared(model: keras.Model, step: Step, tune: TuneSpec) -> tuple[Graph, dict[str, Any]]:
    """The graph and the worker's task, without the number of steps and the i/o type."""
    check_finite(model)
    graph = Graph.of(model)
    _check_classifier(graph.model)
    own = {"spec": dataclasses.asdict(step.spec), "tune": dataclasses.asdict(tune), **step.tfmot_options()}
    task: dict[str, Any] = {"step": step.name, "verb": step.tfmot_verb, **own}
    task |= {"graph": described(graph), "from_logits": meaning(graph.model.outputs[0]) == "logits"}
    task |= {"has_zeros": sparsity_of(graph.model).share > 0}
    chosen = step.tfmot_kernels(graph)
    left_out = {one.name for one in chosen.skipped}
    names = task["graph"]["layers"] if step.tfmot_whole else {one.name for one in chosen.targets}
    return graph, task | {"layers": sorted(set(names) - left_out)}


def _check_classifier(model: keras.Model) -> None:
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        names = ", ".join(model.output_names)
        raise EffkerasError(f"{TFMOT} trains classifiers only here, and {model.name!r} outputs {names}")


def _write_images(folder: Path, store: ImageStore, spec: ModelSpec, training: StepTraining) -> None:
    tune, augment = training.tune, training.settings.augment.without_softening()  # it takes class numbers
    steps = max(1, len(store) // tune.batch)
    size = (steps * tune.batch, *spec.input.size, 3)
    if shutil.disk_usage(folder).free < math.prod(size):  # a full disk under a memory map kills the process
        raise EffkerasError(
            f"{folder}: no room for {math.prod(size):,} bytes of images; set TMPDIR to a larger disk"
        )
    pixels = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, size)
    labels = np.zeros(len(pixels), np.int32)
    batches = training_batches(store, spec, BatchSpec(tune.batch, tune.seed, augment), range(steps))
    for number, (some, theirs) in enumerate(track(batches.as_numpy_iterator(), "images", steps)):
        place = slice(number * tune.batch, (number + 1) * tune.batch)
        pixels[place], labels[place] = np.rint(np.clip(some, 0, 255)), theirs
    pixels.flush()
    np.save(folder / "labels.npy", labels, allow_pickle=False)


def _artifact(path: Path, model: keras.Model, spec: ModelSpec) -> bytes | None:
    """The artifact with effkeras' input and output names and the definition; None if there is none."""
    if not path.is_file():
        return None
    named = name_interface(path.read_bytes(), [model.inputs[0].name], model.output_names)
    return attach(named, DEFINITION, spec.to_toml().encode())


def _report(graph: Graph, after: keras.Model, step: Step) -> StepReport:
    own = step.tfmot_report(graph.model, after)
    if own is not None:
        return own
    chosen = step.tfmot_kernels(graph)
    names = dict.fromkeys(target.name for target in chosen.targets)
    layers = [_entry(graph.model.get_layer(name), after.get_layer(name)) for name in names]
    return StepReport(step.name, (*layers, *chosen.skipped), ERROR_IS)


def _entry(before: keras.Layer, after: keras.Layer) -> LayerReport:
    kernels = [keras.ops.convert_to_numpy(layer.weights[0]) for layer in (before, after)]
    values = len(np.unique(kernels[1]))
    why = f"{values} different values" if values < kernels[1].size else ""
    return LayerReport(before.name, type(before).__name__, "done", why, relative_change(*kernels))


def _environment() -> dict[str, str]:
    root = str(Path(quantize.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": paths, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
