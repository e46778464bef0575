"""PyTorch's `.pth` files of tensors, read without PyTorch and without unpickling.

A pickle is a small program. This module runs only the instructions that a state dict needs, and the only
functions it knows rebuild tensors and dicts; any other name ends the reading. Both forms are read: zip
archives (PyTorch 1.6 and later) and the older plain form (PyTorch's `torch/serialization.py` writes both).
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from effkeras.support.errors import EffkerasError
from effkeras.weights.formats import reading

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_INSTRUCTIONS = 5_000_000
_MOST_AXES = 8
_LARGEST_PICKLE = 2**26  # bytes; that of a state dict takes some kilobytes
_LARGEST_NUMBER = 2**48  # of a shape, a stride and the like
# Tensors may share a storage, and EMA weights do; more than this many copies of the file are an attack.
_MOST_COPIES = 4
# The kind of numbers in each storage; bfloat16 is read as its bits.
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_state_dict")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name; bfloat16 and half precision as float32.

    A state dict inside {"state_dict": ...} or {"model": ...} is found, and "module." before all names is
    dropped. Raises EffkerasError for a file that holds anything but tensors, such as a whole model, and for a
    damaged one.
    """
    with reading(path, "PyTorch file"):
        content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return _state_dict(path, content)


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that the pickle refers to: a function or a class."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor's place in a storage, in elements."""

    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Storage:
    """A storage by its key, with the kind of its numbers and their count."""

    key: str
    dtype: str
    count: int


class _Storages(Protocol):
    """The bytes of the storages."""

    def read(self, key: str) -> bytes:
        """The bytes of one storage."""


def _read_zip(path: Path) -> tuple[Any, Mapping[str, _Storage], _Storages]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(names) != 1:
            raise EffkerasError(f"{path} is not a file of PyTorch tensors: it has no data.pkl")
        _check_members(archive, path)
        if archive.getinfo(names[0]).file_size > _LARGEST_PICKLE:
            raise EffkerasError(f"{path}: its data.pkl is too large for a state dict")
        base = names[0].removesuffix("data.pkl")
        if f"{base}byteorder" in archive.namelist() and _order(archive, f"{base}byteorder") != b"little":
            raise EffkerasError(f"{path} was written on a big-endian machine; save it again on another")
        machine = _Machine(path)
        content = machine.run(io.BytesIO(archive.read(names[0])))
    return content, machine.storages, _ZipStorages(path, f"{base}data/")


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises EffkerasError for members that expand, or share their bytes, as PyTorch's never do."""
    total, size = sum(one.file_size for one in archive.infolist()), path.stat().st_size
    if total > _MOST_COPIES * size + _LARGEST_PICKLE:
        raise EffkerasError(f"{path} is not safe to read: it expands from {size:,} to {total:,} bytes")


def _order(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(16)


@dataclass(frozen=True, slots=True)
class _ZipStorages:
    path: Path
    base: str

    def read(self, key: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(self.base + key)
            if info.file_size > self.path.stat().st_size:  # tensors are stored, not compressed
                raise EffkerasError(f"{self.path}: a storage is larger than the file; it is damaged")
            return archive.read(info)


def _read_legacy(path: Path) -> tuple[Any, Mapping[str, _Storage], _Storages]:
    """The older form: magic number, version, system, the pickle, the keys of storages, then their bytes."""
    with path.open("rb") as file:
        if _Machine(path).run(file) != _LEGACY_MAGIC:
            raise EffkerasError(
                f"{path} is not a file of PyTorch tensors; give a state dict saved by torch.save"
            )
        for _ in ("version", "system"):
            _Machine(path).run(file)
        machine = _Machine(path)
        content = machine.run(file)
        keys = _Machine(path).run(file)
        size = path.stat().st_size
        found: dict[str, bytes] = {}
        for key in keys:
            storage = machine.storages[_text(key)]
            count = int.from_bytes(file.read(8), "little")
            length = count * np.dtype(storage.dtype).itemsize
            if count != storage.count or length > size:
                raise EffkerasError(
                    f"{path} is damaged: a storage has {count} values instead of {storage.count}"
                )
            found[storage.key] = file.read(length)
    return content, machine.storages, _LegacyStorages(found)


@dataclass(frozen=True, slots=True)
class _LegacyStorages:
    found: Mapping[str, bytes]

    def read(self, key: str) -> bytes:
        return self.found[key]


class _Machine:
    """Runs the instructions of one pickle. `storages` holds the storages it refers to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        """The object that the pickle describes. Raises EffkerasError for an instruction that is not known."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number > _MOST_INSTRUCTIONS:
                raise EffkerasError(f"{self._path} has too many instructions for a state dict")
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _MADE:
                self._stack.append(_MADE[name]())
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise EffkerasError(
                    f"{self._path} needs the pickle instruction {name}, which no tensor needs"
                )
        raise EffkerasError(f"{self._path} ends early")

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _after_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _put(self, key: int | None) -> None:
        self._memo[len(self._memo) if key is None else key] = self._stack[-1]

    def _get(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._after_mark()))

    def _short_tuple(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        if len(items) < count:
            raise ValueError("the stack is empty")
        del self._stack[-count:]
        self._stack.append(items)

    def _append(self, _: Any) -> None:
        value = self._stack.pop()
        self._list().append(value)

    def _appends(self, _: Any) -> None:
        values = self._after_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise TypeError("an item is added to what is not a list")
        return self._stack[-1]

    def _set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._dict()[_key(key)] = value

    def _set_items(self, _: Any) -> None:
        items = self._after_mark()
        self._dict().update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _dict(self) -> dict[Any, Any]:
        if not isinstance(self._stack[-1], dict):
            raise TypeError("an item is set in what is not a dict")
        return self._stack[-1]

    def _build(self, _: Any) -> None:
        self._stack.pop()  # attributes, such as _metadata of a state dict
        self._dict()

    def _global(self, argument: str) -> None:
        self._stack.append(self._known(*argument.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._known(_text(module), _text(name)))

    def _known(self, module: str, name: str) -> _Name:
        is_storage = module in ("torch", "torch.storage") and name in _STORAGES
        if not is_storage and (module, name) not in _FUNCTIONS:
            raise EffkerasError(
                f"{self._path} needs {module}.{name} and so holds more than tensors; save model.state_dict()"
            )
        return _Name(module, name)

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no function")
        self._stack.append(_FUNCTIONS[function.module, function.name](*arguments))

    def _persistent(self, _: Any) -> None:
        kind, storage, key, _place, count, *view = self._stack.pop()
        is_known = kind == "storage" and isinstance(storage, _Name) and storage.name in _STORAGES
        if not is_known or not _is_size(count) or any(one is not None for one in view):
            raise TypeError("a reference to what is no storage")
        name = _text(key)
        self.storages[name] = _Storage(name, _STORAGES[storage.name], count)
        self._stack.append(self.storages[name])

    def _pop(self, _: Any) -> None:
        self._stack.pop()


_VALUES = frozenset(
    {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    | {"BINBYTES", "SHORT_BINBYTES"}
)
_MADE: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_ACTIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "PUT": _Machine._put,
    "MEMOIZE": _Machine._put,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GET": _Machine._get,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "BUILD": _Machine._build,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BINPERSID": _Machine._persistent,
    "POP": _Machine._pop,
}


def _rebuilt_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """`torch._utils._rebuild_tensor_v2`; its last arguments are gradients and hooks."""
    is_place = isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    numbers = (offset, *shape, *strides) if is_place else ()
    if not numbers or len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise TypeError("a tensor without storage, shape and strides")
    if not all(map(_is_size, numbers)):
        raise TypeError("a tensor with a shape that is no shape")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and (last >= storage.count or math.prod(shape) > storage.count):
        raise ValueError("a tensor reaches beyond its storage")
    return _Tensor(storage.key, storage.dtype, offset, shape, strides)


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in items}


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= _LARGEST_NUMBER


def _key(key: Any) -> str | int:
    """A key of a dict. A pickle builds nested tuples in few bytes whose hash or text takes hours."""
    if not isinstance(key, str | int):
        raise TypeError(f"a key is a {type(key).__name__}")
    return key


def _text(value: Any) -> str:
    return str(_key(value))


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}


def _state_dict(path: Path, content: tuple[Any, Mapping[str, _Storage], _Storages]) -> dict[str, np.ndarray]:
    top, _, storages = content
    for key in _WRAPPERS:
        if isinstance(top, dict) and isinstance(top.get(key), dict):
            top = top[key]
            break
    items = top.items() if isinstance(top, dict) else ()
    tensors = {_text(name): one for name, one in items if isinstance(one, _Tensor)}
    if not tensors:
        raise EffkerasError(f"{path} holds no tensors by name; save model.state_dict() and give that")
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    _check_size(path, tensors.values())
    by_storage: dict[str, dict[str, _Tensor]] = {}
    for name, one in tensors.items():
        by_storage.setdefault(one.storage, {})[name.removeprefix(prefix)] = one
    arrays: dict[str, np.ndarray] = {}
    for storage, own in by_storage.items():  # each is read once
        stored = storages.read(storage)
        arrays |= {name: _array(one, stored) for name, one in own.items()}
    return {name: arrays[name] for name in (name.removeprefix(prefix) for name in tensors)}


def _check_size(path: Path, tensors: Iterable[_Tensor]) -> None:
    """Raises EffkerasError for tensors that together are far larger than the file."""
    total = sum(math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in tensors)
    size = path.stat().st_size
    if total > _MOST_COPIES * size:
        raise EffkerasError(f"{path} is not safe to read: its tensors have {total:,} bytes, it has {size:,}")


def _array(tensor: _Tensor, content: bytes) -> np.ndarray:
    values = np.frombuffer(content, tensor.dtype)
    used = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if math.prod(tensor.shape) and used >= len(values):
        raise ValueError("a storage is cut short")
    steps = [stride * values.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False)
    if tensor.dtype == _STORAGES["BFloat16Storage"]:
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view.astype(np.float32) if view.dtype == np.float16 else view.copy()
