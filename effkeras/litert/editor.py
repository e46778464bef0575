"""Adds operators to the main graph of a finished .tflite; existing operators and values do not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from effkeras.litert.flatbuffer import SIGNATURE
from effkeras.litert.tree import add_constant, code_index, dtype_name, load_schema, pack, parse, text_of
from effkeras.support.errors import EffkerasError

# Operators whose options table in the schema has another name than the operator.
_TABLES = {
    "TOPK_V2": "TopKV2Options",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "REDUCE_MAX": "ReducerOptions",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the edited graph; `dtype` as numpy spells it."""

    index: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Result:
    """An output that an operator creates. `name` is used unchanged."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class GraphEditor:
    """The main graph of a .tflite, to which operators are added at the end; `packed` returns the file.

    Raises EffkerasError for a corrupt file.
    """

    def __init__(self, flatbuffer: bytes) -> None:
        self._parsed = parse(flatbuffer)
        self._graph = self._parsed.subgraphs[0]

    def output(self, name: str) -> Value:
        """The output with this name in the signature. Raises EffkerasError if there is none."""
        for signature in self._parsed.signatureDefs or []:
            for entry in signature.outputs:
                if text_of(entry.name) == name:
                    return self._value(entry.tensorIndex)
        raise EffkerasError(f"the .tflite has no output {name!r}; export the model again")

    def outputs(self) -> dict[str, Value]:
        """All outputs by their names in the signature, in the order of the graph."""
        (signature,) = self._parsed.signatureDefs
        names = {entry.tensorIndex: text_of(entry.name) for entry in signature.outputs}
        return {names[index]: self._value(index) for index in self._graph.outputs}

    def as_float32(self, value: Value, name: str) -> Value:
        """The same tensor in float32, called `name`; this undoes a conversion to uint8 outputs."""
        if value.dtype == "float32":
            return self.renamed(value, name)
        maker = self._maker(value.index)
        if value.dtype == "uint8" and maker is not None and self._is(maker, "QUANTIZE"):
            self._as_dequantized(maker, name)
            return self._value(value.index)
        self.renamed(value, f"{name}_{value.dtype}")
        (made,) = self.add_all("DEQUANTIZE", [value], [Result(name, value.shape)], version=2)
        return made

    def renamed(self, value: Value, name: str) -> Value:
        """The same tensor under another name."""
        self._graph.tensors[value.index].name = name
        return value

    def constant(self, name: str, values: np.ndarray | np.generic) -> Value:
        """A new constant."""
        values = np.ascontiguousarray(values).reshape(np.shape(values))  # the former makes scalars (1,)
        return self._value(add_constant(self._parsed, values, name))

    def add(
        self, operator: str, inputs: Sequence[Value], result: Result, options: Mapping[str, Any] | None = None
    ) -> Value:
        """Adds a built-in operator with one result; see `add_all`."""
        (made,) = self.add_all(operator, inputs, [result], options)
        return made

    def add_all(
        self,
        operator: str,
        inputs: Sequence[Value],
        results: Sequence[Result],
        options: Mapping[str, Any] | None = None,
        version: int = 1,
    ) -> list[Value]:
        """Adds a built-in operator after all others.

        Args:
            operator: its name in the schema, such as "GATHER".
            inputs: tensors of this graph.
            results: the tensors that it creates.
            options: the options that differ from the schema's defaults, by the schema's names.
            version: the oldest operator version that supports this use.
        """
        schema = load_schema()
        code = code_index(self._parsed, getattr(schema.BuiltinOperator, operator), version)
        made = [self._tensor(result) for result in results]
        node = self._node(code, inputs, made)
        table = _TABLES.get(operator, operator.title().replace("_", "") + "Options")
        if hasattr(schema.BuiltinOptions, table):
            node.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            node.builtinOptions = getattr(schema, f"{table}T")()
            vars(node.builtinOptions).update(options or {})
        return made

    def reshape(self, value: Value, name: str, shape: tuple[int, ...]) -> Value:
        """Adds a RESHAPE: the same values in another shape."""
        sides = self.constant(f"{name}/shape", np.array(shape, np.int32))
        result = Result(name, shape, value.dtype)
        return self.add("RESHAPE", [value, sides], result, {"newShape": list(shape)})

    def add_custom(
        self, operator: str, inputs: Sequence[Value], results: Sequence[Result], options: bytes
    ) -> list[Value]:
        """Adds a custom operator, by its registered name, with its own options."""
        schema = load_schema()
        custom = schema.BuiltinOperator.CUSTOM
        code = schema.OperatorCodeT(
            deprecatedBuiltinCode=custom, builtinCode=custom, customCode=operator, version=1
        )
        self._parsed.operatorCodes.append(code)
        made = [self._tensor(result) for result in results]
        node = self._node(len(self._parsed.operatorCodes) - 1, inputs, made)
        node.customOptions = np.frombuffer(options, np.uint8)
        return made

    def set_outputs(self, outputs: Mapping[str, Value]) -> None:
        """Sets the outputs of the graph, in this order, and their names in the signature."""
        schema = load_schema()
        (signature,) = [one for one in self._parsed.signatureDefs if text_of(one.signatureKey) == SIGNATURE]
        signature.outputs = [
            schema.TensorMapT(name=name, tensorIndex=value.index) for name, value in outputs.items()
        ]
        self._graph.outputs = [value.index for value in outputs.values()]

    def packed(self) -> bytes:
        """The file."""
        return pack(self._parsed)

    def _value(self, index: int) -> Value:
        tensor = self._graph.tensors[index]
        return Value(index, tuple(int(side) for side in tensor.shape), dtype_name(tensor.type))

    def _tensor(self, result: Result) -> Value:
        schema = load_schema()
        kind = getattr(schema.TensorType, result.dtype.upper())
        shape = list(result.shape)
        self._graph.tensors.append(schema.TensorT(shape=shape, type=kind, name=result.name))
        return Value(len(self._graph.tensors) - 1, result.shape, result.dtype)

    def _node(self, code: int, inputs: Sequence[Value], outputs: Sequence[Value]) -> Any:
        node = load_schema().OperatorT(
            opcodeIndex=code,
            inputs=[value.index for value in inputs],
            outputs=[value.index for value in outputs],
        )
        self._graph.operators.append(node)
        return node

    def _maker(self, index: int) -> Any:
        return next((node for node in self._graph.operators if index in node.outputs), None)

    def _is(self, node: Any, operator: str) -> bool:
        code = self._parsed.operatorCodes[node.opcodeIndex]
        found = max(code.builtinCode, code.deprecatedBuiltinCode)
        return found == getattr(load_schema().BuiltinOperator, operator)

    def _as_dequantized(self, node: Any, name: str) -> None:
        """Turns a QUANTIZE between two 8-bit types into a DEQUANTIZE."""
        schema = load_schema()
        node.opcodeIndex = code_index(self._parsed, schema.BuiltinOperator.DEQUANTIZE, 2)
        node.builtinOptionsType, node.builtinOptions = 0, None
        tensor = self._graph.tensors[node.outputs[0]]
        tensor.type, tensor.quantization, tensor.name = schema.TensorType.FLOAT32, None, name
