"""timm's and effdet's weights: `.safetensors` files, or folders as the Hugging Face hub gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effkeras.definitions.definition import ModelSpec
from effkeras.support.errors import EffkerasError
from effkeras.weights.sources import Demands, NamedSource, Padding, Triple, reading
from effkeras.weights.timm_names import torch_entries

_WHAT = "safetensors file"
_COUNTER = "num_batches_tracked"
_OWN = ("efficientnet_", "efficientnetv2_", "mixnet_", "mnasnet_", "semnasnet_", "mobilenetv")
_EPSILON: Mapping[Padding, float] = {"same": 1e-3, "symmetric": 1e-5}


def open_weights(path: Path, spec: ModelSpec, padding: Padding | None = None) -> NamedSource:
    """Opens a state dict; refused when it cannot be told how the network pads.

    timm's `tf_` models pad like TensorFlow and have batch normalisation's epsilon 1e-3, all others pad as
    PyTorch does and have 1e-5, under the same names and shapes. The file's or folder's name or a
    `config.json` beside it tells which, else the caller.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    arrays = TorchArrays(file)
    config = _config(file.with_name("config.json"))
    entries = torch_entries(spec, arrays.names())
    if spec.is_detector:
        _check_effdet(file, arrays.names())
        return NamedSource(arrays, entries, _demands(config, "same"))
    return NamedSource(arrays, entries, _demands(config, padding or _padding(file, config)))


class TorchArrays:
    """A safetensors file's arrays, without the counters of batch normalisations."""

    kind = "timm or effdet safetensors"

    def __init__(self, path: Path):
        self._path = path
        with reading(path, _WHAT):
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                self._names = {name for name in file.keys() if not name.endswith(_COUNTER)}  # noqa: SIM118

    def names(self) -> set[str]:
        """Names in the state dict."""
        return set(self._names)

    def read(self, name: str) -> np.ndarray:
        """One array, in float32."""
        with reading(self._path, _WHAT):
            from safetensors import safe_open

            with safe_open(self._path, framework="numpy") as file:
                return file.get_tensor(name).astype(np.float32)


def _check_effdet(file: Path, names: set[str]) -> None:
    """effdet's own `efficientdet_` models have no biases before norms, and pools that pad evenly."""
    if "class_net.predict.conv_pw.weight" in names and "class_net.conv_rep.0.conv_pw.bias" not in names:
        raise EffkerasError(
            f"{file} is an effdet model that pads as PyTorch does, also in its pyramid, which cannot be "
            "built here; take a `tf_efficientdet_` one"
        )


def _padding(file: Path, config: Mapping[str, Any]) -> Padding:
    architecture = str(config.get("architecture", ""))
    if architecture:
        return "same" if architecture.startswith("tf_") else "symmetric"
    generic = ("model", "pytorch_model", "")
    name = next((name for name in (file.stem, file.parent.name) if name not in generic), "")
    name = name.replace("timm--", "").rsplit("models--", 1)[-1]
    if name.startswith("tf_"):
        return "same"
    if name.startswith(
        ("efficientnet_", "efficientnetv2_", "mixnet_", "mnasnet_", "semnasnet_", "mobilenetv")
    ):
        return "symmetric"
    raise EffkerasError(
        f"{file}: same names and shapes serve timm's tf_ models and its own, which pad differently; keep "
        "config.json beside it, or give padding: same (tf_ models) or symmetric"
    )


def _config(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EffkerasError(f"cannot read {file}: {error}") from error
    if not isinstance(config, dict):
        raise EffkerasError(f"{file} is no timm configuration: it holds no table")
    return config


def _demands(config: Mapping[str, Any], padding: Padding) -> Demands:
    """What timm's `pretrained_cfg` says of the pixels, and what its networks are built with."""
    trained = config.get("pretrained_cfg", config)
    trained = trained if isinstance(trained, dict) else {}
    mean, std = _pixels(trained.get("mean")), _pixels(trained.get("std"))
    return Demands(mean, std, padding, _EPSILON[padding])


def _pixels(values: Any) -> Triple | None:
    if not isinstance(values, list) or len(values) != 3:
        return None
    red, green, blue = (round(float(value) * 255, 6) for value in values)
    return red, green, blue
