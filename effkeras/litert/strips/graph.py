"""The main graph of a .tflite as one looks at it to cut it up."""

from __future__ import annotations

import math
from typing import Any

from effkeras.litert.tree import code_name, dtype_name, readers_of

_BYTES = {"float32": 4, "int32": 4, "float16": 2, "int16": 2}


class Graph:
    """A parsed file's main graph with what its tensors are and who reads them."""

    def __init__(self, parsed: Any) -> None:
        self.parsed = parsed
        self._graph = parsed.subgraphs[0]
        self.readers = readers_of(self._graph)

    @property
    def operators(self) -> list[Any]:
        """The operators in the order of execution."""
        return self._graph.operators

    def name(self, op: Any) -> str:
        """An operator's name, such as CONV_2D."""
        return code_name(self.parsed.operatorCodes[op.opcodeIndex])

    def tensor(self, index: int) -> Any:
        """A tensor of the schema."""
        return self._graph.tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """The sides of a tensor; () for a scalar."""
        shape = self.tensor(index).shape
        return () if shape is None else tuple(map(int, shape))

    def size(self, index: int) -> int:
        """The bytes of a tensor's values."""
        return math.prod(self.shape(index)) * _BYTES.get(dtype_name(self.tensor(index).type), 1)

    def maps(self, op: Any) -> list[int]:
        """An operator's inputs that are no constants, each once."""
        return list(dict.fromkeys(int(one) for one in op.inputs if one >= 0 and not self._is_constant(one)))

    def constants(self, op: Any) -> list[int]:
        """An operator's inputs that are constants."""
        return [int(one) for one in op.inputs if one >= 0 and self._is_constant(one)]

    def _is_constant(self, index: int) -> bool:
        return self.parsed.buffers[self.tensor(index).buffer].data is not None
