"""The interface of all weights formats, and the detection of a file's format."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.definitions.networks import Conventions
from effkeras.support.errors import EffkerasError

Triple = tuple[float, float, float]
Padding = Literal["same", "symmetric"]


@dataclass(frozen=True, slots=True)
class ModelWeight:
    """A weight of the model: its layer, its name, and its position among the layer's weights."""

    layer: str
    weight: str
    position: int


@dataclass(frozen=True, slots=True)
class Requirements:
    """The values that weights require of a model's definition; None leaves a value unchanged.

    `mean` and `std` are on the 0..255 scale; `padding` and `epsilon` are those of the network's
    convolutions and batch normalisations.
    """

    mean: Triple | None = None
    std: Triple | None = None
    padding: Padding | None = None
    epsilon: float | None = None


class Source(Protocol):
    """A weights file, read by the model's layer and weight names."""

    kind: str
    requirements: Requirements
    optional: frozenset[str]  # layers that the file omits as a whole, such as the classifier
    spec: ModelSpec | None  # the definition stored in the file
    is_own: bool  # whether effkeras wrote the file

    def name(self, wanted: ModelWeight) -> str:
        """The weight's name in the file."""

    def find(self, wanted: ModelWeight) -> np.ndarray | None:
        """The weight in the model's layout; None if the file lacks it."""

    def unused_names(self, used: set[str]) -> list[str]:
        """Names of the file's other weights."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The place of a weight in a file of named arrays, and the order of its axes there.

    `layout` names PyTorch's order of a "conv", "depthwise" or "linear" kernel; `index` picks one value.
    """

    name: str
    layout: Literal["", "conv", "depthwise", "linear"] = ""
    index: int | None = None


class Arrays(Protocol):
    """A file of named arrays, without what its format adds (step counters, optimizer slots)."""

    kind: str

    def names(self) -> set[str]:
        """All names."""

    def read(self, name: str) -> np.ndarray:
        """One array."""


_AXES = {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "linear": (1, 0)}


class NamedSource:
    """A file of named arrays with a map from effkeras' weights to its names."""

    optional: frozenset[str] = frozenset()
    spec: ModelSpec | None = None
    is_own = False

    def __init__(
        self,
        arrays: Arrays,
        entries: Mapping[tuple[str, str], Entry],
        requirements: Requirements = Requirements(),
    ):
        self.kind = arrays.kind
        self.requirements = requirements
        self._arrays = arrays
        self._entries = entries
        self._names = arrays.names()

    def name(self, wanted: ModelWeight) -> str:
        """The array's name."""
        return self._entry(wanted).name

    def find(self, wanted: ModelWeight) -> np.ndarray | None:
        """The array with its axes in Keras order."""
        entry = self._entry(wanted)
        return _arranged(self._arrays.read(entry.name), entry) if entry.name in self._names else None

    def unused_names(self, used: set[str]) -> list[str]:
        """Arrays that no weight uses."""
        return sorted(self._names - used)

    def _entry(self, wanted: ModelWeight) -> Entry:
        key = (wanted.layer, wanted.weight)
        return self._entries.get(key) or Entry(f"{wanted.layer}/{wanted.weight}")


def _arranged(value: np.ndarray, entry: Entry) -> np.ndarray:
    if entry.index is not None:
        # Too few values: return them all; the loader then rejects the shape.
        return value[entry.index] if entry.index < len(value) else value
    axes = _AXES.get(entry.layout)
    return value.transpose(axes) if axes and value.ndim == len(axes) else value


def adapted(spec: ModelSpec, requirements: Requirements) -> ModelSpec:
    """The definition with the values that the weights require."""
    mean, std = requirements.mean or spec.input.mean, requirements.std or spec.input.std
    network = spec.network.with_conventions(Conventions(requirements.padding, requirements.epsilon))
    return spec.replace(input=dataclasses.replace(spec.input, mean=mean, std=std), network=network)


def open_source(path: Path, spec: ModelSpec, padding: Padding | None = None) -> Source:
    """Opens a file or folder of weights in any format; the content decides, not the suffix.

    Args:
        path: a file, a folder, or the prefix of a TensorFlow checkpoint.
        spec: the model that the weights are for; its names are looked up.
        padding: how the network of the weights pads strided convolutions, if the file does not state it.

    Raises:
        EffkerasError: no such file, an unknown or unsafe format, or a damaged file.
    """
    kind = recognise(path)
    if padding is not None and kind not in ("safetensors", "torch"):
        raise EffkerasError(f"{path} states its padding; leave out `padding`, which is for PyTorch's weights")
    # Each format's module is imported only when needed: h5py and TensorFlow are slow to load.
    module = importlib.import_module(f"effkeras.weights.{_MODULES[kind]}")
    return cast(Source, module.open_weights(path, spec, padding))


_MODULES = {
    "tensorflow": "tf_checkpoints",
    "keras": "keras_files",
    "hdf5": "keras_h5",
    "safetensors": "timm",
    "torch": "timm",
}


def recognise(path: Path) -> str:
    """The format of a file or folder of weights: a key of `_MODULES`.

    Raises EffkerasError for archives and unknown content.
    """
    if not path.exists() and Path(f"{path}.index").is_file():
        return "tensorflow"
    if path.is_dir():
        return _recognise_folder(path)
    if not path.is_file():
        raise EffkerasError(f"there are no weights {path}: give a file, a folder or a checkpoint's prefix")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise EffkerasError(f"cannot read {path}: {error.strerror}") from error
    return _recognise_file(path, head)


def _recognise_folder(path: Path) -> str:
    if (path / "model.keras").is_file():
        return "keras"
    return "safetensors" if (path / "model.safetensors").is_file() else "tensorflow"


def _recognise_file(path: Path, head: bytes) -> str:
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"PK"):
        return _recognise_zip(path)
    if path.suffix in (".index", ".meta") or ".data-" in path.name:
        return "tensorflow"
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return "safetensors"
    if head.startswith(b"\x80") or path.suffix in (".pth", ".pt", ".bin"):
        return "torch"
    if head.startswith(b"\x1f\x8b"):
        raise EffkerasError(f"{path} is an archive: unpack it (tar -xzf) and give the folder inside")
    raise EffkerasError(
        f"{path} holds no weights that can be read: it is damaged, or not of TensorFlow, Keras, PyTorch or "
        "safetensors"
    )


def _recognise_zip(path: Path) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise EffkerasError(f"{path} is corrupt: {error}") from error
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "keras"


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns any exception of a reader on a damaged file into one EffkerasError."""
    try:
        yield
    except EffkerasError:
        raise
    except Exception as error:  # a truncated file gives IndexError, a wrong checksum OpError
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise EffkerasError(f"{path} is not a readable {what}: {reason}") from error
