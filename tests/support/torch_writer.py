"""Writes PyTorch's files of tensors without PyTorch, as `torch.save` does."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint16": "BFloat16Storage",
}
MAGIC = 0x1950A86A20F9469CFC6C


class _Tensor:
    """A tensor over a storage of its own."""

    def __init__(self, key: str, value: np.ndarray) -> None:
        self.key, self.value = key, value

    def __reduce__(self):
        strides = tuple(step // self.value.itemsize for step in self.value.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (_Storage(self), 0, self.value.shape, strides, False, OrderedDict())


class _Storage:
    def __init__(self, tensor: _Tensor) -> None:
        self.tensor = tensor


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any):
        if not isinstance(obj, _Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[obj.tensor.value.dtype.name])
        place = ("storage", kind, obj.tensor.key, "cpu", obj.tensor.value.size)
        return (*place, None) if self.is_legacy else place

    is_legacy = False


@contextlib.contextmanager
def _named_torch() -> Iterator[None]:
    """Modules with the names that the pickles refer to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = _function("_rebuild_tensor_v2")
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def _function(name: str) -> Callable[..., None]:
    def rebuild(*_: Any) -> None:
        """Only its name is pickled."""

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", name
    return rebuild


def write_pth(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    legacy: bool = False,
    wrap: Callable[[Any], Any] = lambda content: content,
) -> Path:
    """Writes a state dict in the zip form, or in the older one; `wrap` puts it into something else."""
    content = OrderedDict(
        (name, _Tensor(str(key), value)) for key, (name, value) in enumerate(tensors.items())
    )
    buffer = io.BytesIO()
    with _named_torch():
        pickler = _Pickler(buffer, protocol=2)
        pickler.is_legacy = legacy
        pickler.dump(wrap(content))
    storages = {one.key: one.value.tobytes("A") for one in content.values()}
    if legacy:
        _write_legacy(path, buffer.getvalue(), content)
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", buffer.getvalue())
        archive.writestr("model/byteorder", b"little")
        for key, value in storages.items():
            archive.writestr(f"model/data/{key}", value)
    return path


def _write_legacy(path: Path, pickled: bytes, content: Mapping[str, _Tensor]) -> None:
    keys = sorted(one.key for one in content.values())
    parts = [pickle.dumps(one, 2) for one in (MAGIC, 1001, {"little_endian": True})]
    parts += [pickled, pickle.dumps(keys, 2)]
    by_key = {one.key: one.value for one in content.values()}
    for key in keys:
        parts += [struct.pack("<q", by_key[key].size), by_key[key].tobytes("A")]
    path.write_bytes(b"".join(parts))
