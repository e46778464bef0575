"""Everything that reads a file from elsewhere, with a small good file for each."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from faults.damage import in_gzip, in_json, in_png, in_records, in_table, in_tar, in_zip
from faults.reader import Reader, damage_flatbuffer, with_text
from faults.readers_of_tflite import OF_TFLITE
from faults.readers_of_work import OF_WORK


def _spec() -> Any:
    from support.tiny import tiny_classifier

    return tiny_classifier()


@functools.cache
def _weights() -> dict[tuple[str, str], np.ndarray]:
    from effkeras.graph.counting import weight_shapes

    rng = np.random.default_rng(0)
    return {key: rng.random(shape, np.float32) for key, shape in weight_shapes(_spec()).items()}


def _read_weights(path: Path) -> None:
    """Opens a file for the tiny classifier, and reads all it has of it."""
    from effkeras.weights.formats import ModelWeight, open_source

    source = open_source(path, _spec(), "same" if path.suffix in (".safetensors", ".pth") else None)
    positions: dict[str, int] = {}
    for layer, weight in _weights():
        position = positions.get(layer, 0)
        positions[layer] = position + 1
        found = source.find(ModelWeight(layer, weight, position))
        assert found is None or found.nbytes < 2**28


def _keras_model(folder: Path) -> Any:
    import keras

    return keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()]
    )


def _make_keras(folder: Path) -> Path:
    _keras_model(folder).save(folder / "model.keras")
    return folder / "model.keras"


def _read_keras(path: Path) -> None:
    import keras

    from effkeras.weights.keras_files import load

    keras.backend.clear_session()
    load(path)


def _make_own_keras(folder: Path) -> Path:
    """The configuration of a model of ours, of which only the definition is read."""
    import zipfile

    definition = _spec().to_toml()
    layers = [{"class_name": "Normalize", "config": {"definition": definition}}]
    with zipfile.ZipFile(folder / "own.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    return folder / "own.keras"


def _read_spec(path: Path) -> None:
    from effkeras.definitions import zoo

    zoo.spec(path)


def _make_weights_h5(folder: Path) -> Path:
    import h5py

    path = folder / "model.weights.h5"
    with h5py.File(path, "w") as file:
        counts: dict[str, int] = {}
        for (layer, _), value in _weights().items():
            position = counts.get(layer, 0)
            counts[layer] = position + 1
            group = file.require_group(f"layers/{layer}/vars")
            group.attrs["name"] = layer
            group.create_dataset(str(position), data=value, compression="gzip" if position == 1 else None)
    return path


def _make_legacy_h5(folder: Path) -> Path:
    import h5py

    path = folder / "legacy.h5"
    layers: dict[str, list[str]] = {}
    for layer, weight in _weights():
        layers.setdefault(layer, []).append(weight)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, names in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in names]
            for name in names:
                group[f"{layer}/{name}:0"] = _weights()[layer, name]
    return path


def _torch_tensors() -> dict[str, np.ndarray]:
    """A state dict with timm's names for the tiny classifier, in PyTorch's order of axes."""
    from effkeras.graph.networks.blocks import blocks_of
    from effkeras.weights.timm import torch_entries

    spec = _spec()
    names = [f"blocks.{number}.0.x" for number in range(len(blocks_of(spec.network)))]
    entries = torch_entries(spec, names)
    turned = {"conv": (3, 2, 0, 1), "depthwise": (2, 3, 0, 1), "linear": (1, 0)}
    found = {}
    for key, value in _weights().items():
        if key in entries:
            axes = turned.get(entries[key].layout)
            found[entries[key].name] = (
                value.transpose(axes).copy() if axes and value.ndim == len(axes) else value
            )
    return found


def _make_safetensors(folder: Path) -> Path:
    from safetensors.numpy import save_file

    save_file(_torch_tensors(), folder / "a.safetensors")
    return folder / "a.safetensors"


def _make_pth(folder: Path, *, legacy: bool) -> Path:
    from support.torch_writer import write_pth

    return write_pth(folder / "a.pth", _torch_tensors(), legacy=legacy)


def _make_checkpoint(folder: Path, suffix: str) -> Path:
    from support.checkpoint_writer import write_checkpoint

    from effkeras.weights.tf_checkpoints import official_names

    names = official_names(_spec())
    write_checkpoint(folder, {names[key]: value for key, value in _weights().items() if key in names})
    return folder / f"model.{suffix}"


def _read_checkpoint(path: Path) -> None:
    from effkeras.weights.tf_checkpoints import TfArrays

    arrays = TfArrays(path.parent / "model" if path.suffix else path.parent)
    for name in arrays.names():
        arrays.read(name)


def _make_pointer(folder: Path) -> Path:
    _make_checkpoint(folder, "index")
    return folder / "checkpoint"


def _make_archive(folder: Path) -> Path:
    with tarfile.open(folder / "a.tgz", "w:gz") as tar:
        for name in ("model/checkpoint", "model/model.index", "model/" + "n" * 200):
            member = tarfile.TarInfo(name)
            member.size = 1000
            tar.addfile(member, io.BytesIO(bytes(1000)))
    return folder / "a.tgz"


def _unpack(path: Path) -> None:
    import shutil

    from effkeras.weights.download import unpack

    shutil.rmtree(path.parent / "unpacked", ignore_errors=True)
    unpack(path, path.parent / "unpacked")


def _shipped(relative: str) -> Callable[[Path], Path]:
    from effkeras.definitions.zoo import zoo_folder

    def make(folder: Path) -> Path:
        path = folder / Path(relative).name
        path.write_bytes((zoo_folder() / relative).read_bytes())
        return path

    return make


def _read_recipe(path: Path) -> None:
    from quantize.recipes import find

    find(path)


def _read_training(path: Path) -> None:
    from effkeras.definitions import zoo
    from effkeras.training.recipes import recipe_of
    from effkeras.training.settings import settings_over

    recipe = recipe_of(str(path), zoo.spec("efficientnet-digits"))
    settings_over(recipe.table, recipe.where, {})


def _make_space(folder: Path) -> Path:
    from effkeras.search.spaces import reading

    path = folder / "space.toml"
    path.write_bytes(Path(reading.__file__).with_name("digits-tiny.toml").read_bytes())
    return path


def _read_space(path: Path) -> None:
    from effkeras.search.spaces.reading import read_space

    read_space(path)


def _data(folder: Path, to: str, *, classes: bool = False) -> Path:
    """A data set of two images in a format."""
    from support.data_sets import data_set

    from effkeras.data.formats import FORMATS
    from effkeras.data.records import ClassificationData, ClassificationRecord

    boxes = [[2.0, 3.0, 10.0, 12.0], [1.0, 1.0, 20.0, 9.0]]
    made = data_set(folder / "images", "train", [((24, 20), [(boxes[0], 0), (boxes[1], 1)]), ((16, 30), [])])
    if classes:
        records = tuple(ClassificationRecord(one.path, place % 2) for place, one in enumerate(made.records))
        made = ClassificationData(folder, "train", made.labels[:2], records)
    (folder / "set").mkdir()
    FORMATS.get(to)().write(folder / "set", [made])
    return folder / "set"


def _label_file(to: str, pattern: str, *, classes: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        root = _data(folder, to, classes=classes)
        return next(path for path in sorted(root.rglob(pattern)) if path.is_file())

    return make


def _make_tfds(name: str) -> Callable[[Path], Path]:
    """A file of a folder as TensorFlow Datasets prepares it."""

    def make(folder: Path) -> Path:
        from effkeras.data.tf_examples import encode_example, write_records

        root = folder / "set"
        root.mkdir()
        objects = {
            "bbox": {"boundingBox": {"bboxFormat": "REL_YXYX"}},
            "label": {"classLabel": {"numClasses": "2"}},
        }
        sequence = {"sequence": {"feature": {"featuresDict": {"features": objects}}}}
        features = {"featuresDict": {"features": {"image": {"image": {}}, "objects": sequence}}}
        info = {"name": "mine", "fileFormat": "tfrecord", "splits": [{"name": "train"}]}
        (root / "features.json").write_text(json.dumps(features))
        (root / "dataset_info.json").write_text(json.dumps(info))
        (root / "label.labels.txt").write_text("cat\ndog\n")
        example = {
            "image": [_make_image("a.png")(folder).read_bytes()],
            "image/filename": [b"a.png"],
            "objects/bbox": [0.1, 0.2, 0.5, 0.6],
            "objects/label": [1],
        }
        write_records(root / "mine-train.tfrecord-00000-of-00001", [encode_example(example)])
        return root / name

    return make


def _make_map(name: str) -> Callable[[Path], Path]:
    """A file of a set of images with label maps."""

    def make(folder: Path) -> Path:
        from PIL import Image

        root = folder / "set"
        for part in ("images", "masks"):
            (root / "train" / part).mkdir(parents=True)
        _make_image("a.png")(root / "train" / "images")
        Image.fromarray(np.ones((20, 24), np.uint8)).save(root / "train" / "masks" / "a.png")
        (root / "labels.txt").write_text("background\ncat\n")
        return root / name

    return make


def _read_map(path: Path) -> None:
    from effkeras.data.masks import read_label_map
    from effkeras.data.splits import open_data

    root = next(one for one in path.parents if one.name == "set")
    data = open_data(root, "train")
    for record in data.records:
        read_label_map(record.masks)


def _read_data(path: Path) -> None:
    """Opens the data set that the file belongs to, strictly and with bad items left out."""
    from effkeras.data.records import ReadOptions
    from effkeras.data.splits import read_split
    from effkeras.support.errors import EffkerasError

    root = next(one for one in path.parents if one.name == "set")
    with contextlib.suppress(EffkerasError):
        read_split(root, "train", ReadOptions(masks=True))
    read_split(root, "train", ReadOptions(skip_bad=True))


def _make_image(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        return folder / name

    return make


def _read_image(path: Path) -> None:
    from effkeras.data.images import decode_image, image_size

    image_size(path)
    decode_image(path)


def _make_video(folder: Path) -> Path:
    import av

    with av.open(str(folder / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for number in range(5):
            pixels = np.full((32, 48, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return folder / "a.mp4"


def _read_video(path: Path) -> None:
    from effkeras.inference.video import open_video

    with open_video(path) as video:
        for _ in video:
            pass


def _make_tflite(folder: Path) -> Path:
    from support.small_tflite import small_tflite

    (folder / "a.tflite").write_bytes(small_tflite())
    return folder / "a.tflite"


def _read_tflite(path: Path) -> None:
    from fuzz import checks

    from effkeras.support.errors import EffkerasError

    content = path.read_bytes()
    for check in checks(_good_tflite()).values():
        with contextlib.suppress(EffkerasError):
            check(content)


def _good_tflite() -> bytes:
    from support.small_tflite import small_tflite

    return small_tflite()


def _read_json_rows(path: Path) -> None:
    from effkeras.support.results import read

    read(path)


def _make_checkpoint_of_training(folder: Path) -> Path:
    from effkeras.training.checkpoint import Progress, save_checkpoint

    save_checkpoint(folder / "checkpoint.npz", _variables(), Progress(step=3))
    return folder / "checkpoint.npz"


def _variables() -> list[Any]:
    class Variable:
        shape = (3, 4)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return np.arange(12, dtype=np.float32).reshape(self.shape)

        def assign(self, value: np.ndarray) -> None:
            assert value.shape == self.shape

    return [Variable(), Variable()]


def _read_checkpoint_of_training(path: Path) -> None:
    from effkeras.training.checkpoint import load_checkpoint

    load_checkpoint(path, _variables())


def _make_run(name: str) -> Callable[[Path], Path]:
    """A file of a run folder: a property of the run, or a path below."""

    def make(folder: Path) -> Path:
        from effkeras.data.splits import open_data
        from effkeras.inference.threshold import Threshold
        from effkeras.training.run import Run
        from effkeras.training.settings import TrainSettings

        run = Run(folder / "run")
        run.start(_spec(), TrainSettings())
        run.keep_data(open_data(_data(folder, "coco"), "train", skip_bad=True))
        Threshold(0.3, 0.5, "val", 4).save(run.folder)
        details = {"labels": ["a"], "confusion": [[3]], "curves": {"a": {"recall": [0.5]}}}
        (run.folder / "evaluation").mkdir()
        (run.folder / "evaluation" / "evaluation.json").write_text(json.dumps(details))
        return Path(getattr(run, name, run.folder / name))

    return make


def _read_run(path: Path) -> None:
    """Reads what the run folder of a file keeps."""
    from effkeras.data.records import ReadOptions
    from effkeras.inference.evaluation_files import read_details
    from effkeras.inference.threshold import kept_threshold
    from effkeras.training.run import Run, kept_options
    from effkeras.training.settings import TrainSettings

    run = Run(next(one for one in path.parents if one.name == "run"))
    run.check(_spec(), TrainSettings())
    kept_options(run.folder, run.folder.parent / "set", ReadOptions())
    kept_threshold(run.folder)
    read_details(run.folder)


def _make_store(folder: Path) -> Path:
    from support.fake_search import fake_job

    from effkeras.search.run import search
    from effkeras.search.trials.workers import InProcess

    search(fake_job(folder, trials=2), InProcess())
    return folder / "search.db"


def _read_store(path: Path) -> None:
    import shutil

    from support.fake_search import fake_job

    from effkeras.search.trials.job import create_store, open_ledger
    from effkeras.search.trials.ledger import Limits
    from effkeras.support.errors import EffkerasError

    with tempfile.TemporaryDirectory(dir=path.parent) as aside:  # as reading a store writes into it
        for name in (path.name, "search.toml"):
            shutil.copy(path.with_name(name), aside)
        job = fake_job(Path(aside), trials=2)
        try:
            create_store(job)
            open_ledger(job, Limits(2)).trials()
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("sqlite3", "sqlalchemy", "optuna"):
                raise
            raise EffkerasError("the store") from error  # as every command says


def _read_timm_config(path: Path) -> None:
    from effkeras.weights.timm import _config, _requirements

    _requirements(_config(path), "same")


def _read_label_map(path: Path) -> None:
    from effkeras.data.label_maps import read_label_map

    read_label_map(path)


def _read_labels(path: Path) -> None:
    from effkeras.data.formats.class_folders import read_labels

    read_labels(path)


def _read_calibration(path: Path) -> None:
    from effkeras.litert.metadata.associated_files import read_calibration

    read_calibration(path, 3)


def _read_benchmark_log(path: Path) -> None:
    from export.delegates.benchmark_log import read_log

    read_log(path.read_text("utf-8", errors="replace"))


def _read_compiler_log(path: Path) -> None:
    from export.preflight.compiler import read_log

    read_log(path.read_text("utf-8", errors="replace"))


def _test_file(relative: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        source = Path(__file__).parents[1] / relative
        (folder / source.name).write_bytes(source.read_bytes())
        return folder / source.name

    return make


_DEFINITION = """base = "efficientdet-lite0"
name = "mine"
classes = 2
labels = ["a", "b"]
category_ids = [1, 5]
[input]
size = [128, 192]
[fpn]
channels = 32
[anchors]
scale = 2.5
aspect_ratios = [1.0, 2.0]
[weights.far]
url = "https://example.org/w.h5"
"""
_RECIPE = """base = "prune50-int8"
name = "mine"
[prune]
sparsity = 0.5
[tune]
epochs = 2
"""
_TIMM = (
    '{"architecture": "tf_efficientnet_lite0", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}}'
)
_MAP = "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  id: 2\n  display_name: \"dog\"\n}\n"

READERS: dict[str, Reader] = {
    **OF_TFLITE,
    **OF_WORK,
    "TIFF": Reader(_make_image("a.tif"), _read_image),
    "TGA": Reader(_make_image("a.tga"), _read_image),
    "SGI": Reader(_make_image("a.sgi"), _read_image),
    "PPM": Reader(_make_image("a.ppm"), _read_image),
    "PCX": Reader(_make_image("a.pcx"), _read_image),
    "JPEG 2000": Reader(_make_image("a.jp2"), _read_image),
    "ICO": Reader(_make_image("a.ico"), _read_image),
    "GIF": Reader(_make_image("a.gif"), _read_image),
    "BMP": Reader(_make_image("a.bmp"), _read_image),
    "AVIF": Reader(_make_image("a.avif"), _read_image),
    "benchmark log": Reader(
        _test_file("export/delegates/logs/2.17-xnnpack-profile.txt"), _read_benchmark_log
    ),
    "calibration": Reader(with_text("scores.csv", "1,2,3\n\n0.5,1,0.25,0.1\n"), _read_calibration),
    "checkpoint data": Reader(
        lambda folder: _make_checkpoint(folder, "data-00000-of-00001"), _read_checkpoint
    ),
    "checkpoint index": Reader(
        lambda folder: _make_checkpoint(folder, "index"), _read_checkpoint, [in_table]
    ),
    "checkpoint pointer": Reader(_make_pointer, _read_checkpoint),
    "class folders": Reader(_label_file("class-folders", "labels.txt", classes=True), _read_data),
    "COCO": Reader(_label_file("coco", "labels.json"), _read_data, [in_json]),
    "compiler log": Reader(_test_file("export/preflight/logs/16.txt"), _read_compiler_log),
    "CSV": Reader(_label_file("csv", "*.csv"), _read_data),
    "definition": Reader(with_text("mine.toml", _DEFINITION), _read_spec),
    "definition in .keras": Reader(_make_own_keras, _read_spec, [in_zip]),
    "HDF5 of Keras 2": Reader(_make_legacy_h5, _read_weights),
    "HDF5 of Keras 3": Reader(_make_weights_h5, _read_weights),
    "JPEG": Reader(_make_image("a.jpg"), _read_image),
    "JSON lines": Reader(
        with_text("results.jsonl", '{"kind": "a", "x": [1, 2.5]}\n\n{"kind": "b"}\n'),
        _read_json_rows,
        [in_json],
    ),
    "Keras model": Reader(_make_keras, _read_keras, [in_zip]),
    "label map": Reader(with_text("label_map.pbtxt", _MAP), _read_label_map),
    "label map of pixels": Reader(_make_map("train/masks/a.png"), _read_map, [in_png]),
    "label map's classes": Reader(_make_map("labels.txt"), _read_map),
    "LabelMe": Reader(_label_file("labelme", "*.json"), _read_data, [in_json]),
    "labels": Reader(with_text("labels.txt", "cat\ndog\nStraße\n"), _read_labels),
    "PNG": Reader(_make_image("a.png"), _read_image, [in_png]),
    "PyTorch": Reader(functools.partial(_make_pth, legacy=False), _read_weights, [in_zip]),
    "PyTorch, older": Reader(functools.partial(_make_pth, legacy=True), _read_weights),
    "recipe": Reader(with_text("mine.toml", _RECIPE), _read_recipe),
    "safetensors": Reader(_make_safetensors, _read_weights),
    "search space": Reader(_make_space, _read_space),
    "tar archive": Reader(_make_archive, _unpack, [in_tar]),
    "TFDS features": Reader(_make_tfds("features.json"), _read_data, [in_json]),
    "TFDS information": Reader(_make_tfds("dataset_info.json"), _read_data, [in_json]),
    "TFDS labels": Reader(_make_tfds("label.labels.txt"), _read_data),
    "TFDS records": Reader(_make_tfds("mine-train.tfrecord-00000-of-00001"), _read_data, [in_records]),
    "TFLite": Reader(_make_tflite, _read_tflite, [damage_flatbuffer]),
    "TFRecord": Reader(_label_file("tfrecord", "*.tfrecord*"), _read_data, [in_records, in_gzip]),
    "timm's configuration": Reader(with_text("config.json", _TIMM), _read_timm_config, [in_json]),
    "training recipe": Reader(_shipped("efficientdet/paper.train.toml"), _read_training),
    "video": Reader(_make_video, _read_video),
    "VOC": Reader(_label_file("voc", "*.xml"), _read_data),
    "WebP": Reader(_make_image("a.webp"), _read_image),
    "work: checkpoint": Reader(_make_checkpoint_of_training, _read_checkpoint_of_training, [in_zip]),
    "work: data": Reader(_make_run("data"), _read_run),
    "work: definition": Reader(_make_run("definition"), _read_run),
    "work: evaluation": Reader(_make_run("evaluation/evaluation.json"), _read_run, [in_json]),
    "work: search": Reader(_make_store, _read_store),
    "work: settings": Reader(_make_run("settings"), _read_run),
    "work: threshold": Reader(_make_run("threshold"), _read_run),
    "YOLO": Reader(_label_file("yolo", "*.yaml"), _read_data),
    "YOLO boxes": Reader(_label_file("yolo", "train*1*.txt"), _read_data),
}
