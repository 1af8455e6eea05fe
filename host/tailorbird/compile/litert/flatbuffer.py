"""A .tflite file under construction: tensors, operators, one subgraph, one signature.

Format: https://github.com/google-ai-edge/LiteRT/blob/main/tflite/schema/schema.fbs, through the generated classes that
ai-edge-litert ships. Nothing here knows torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Operator = schema.BuiltinOperator
Options = schema.BuiltinOptions
Activation = schema.ActivationFunctionType
Padding = schema.Padding

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}
_FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3


class TfliteFile:
    """Tensors and operators are appended and named by index; `serialize` packs them. Batch is the first dimension."""

    def __init__(self, description: str) -> None:
        self._model: Any = schema.ModelT()  # the generated classes declare every field optional
        self._model.version = _SCHEMA_VERSION
        self._model.description = description
        self._model.buffers = [schema.BufferT()]  # buffer 0 is the empty one, by the format
        self._model.operatorCodes = []
        self._graph: Any = schema.SubGraphT()
        self._graph.name = "main"
        self._graph.tensors = []
        self._graph.operators = []
        self._graph.inputs = []
        self._graph.outputs = []
        self._model.subgraphs = [self._graph]
        self._codes: dict[tuple[int, int], int] = {}

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        """A graph input; returns its tensor index."""
        index = self._tensor(shape, dtype, name)
        self._graph.inputs.append(index)
        return index

    def constant(self, value: np.ndarray) -> int:
        """A tensor whose value is stored in the file."""
        dense = np.ascontiguousarray(value)
        buffer: Any = schema.BufferT()
        buffer.data = dense.reshape(-1).view(np.uint8)
        self._model.buffers.append(buffer)
        index = self._tensor(dense.shape, str(dense.dtype))
        self._graph.tensors[index].buffer = len(self._model.buffers) - 1
        return index

    def operator(
        self,
        code: int,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        options: object | None = None,
        dtype: str | None = None,
        version: int = 1,
    ) -> int:
        """Append an operator with one output of the given shape; returns the output's tensor index.

        options is a schema object such as Conv2DOptionsT; its type code follows from its class.
        dtype defaults to that of the first input.
        """
        operator: Any = schema.OperatorT()
        operator.opcodeIndex = self._code(code, version)
        operator.inputs = list(inputs)
        if options is not None:
            operator.builtinOptionsType = getattr(Options, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        output = self._tensor(shape, dtype or self.dtype(inputs[0]))
        operator.outputs = [output]
        self._graph.operators.append(operator)
        return output

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor as stored."""
        return tuple(self._graph.tensors[index].shape)

    def dtype(self, index: int) -> str:
        """Numpy name of a tensor's datatype."""
        code = self._graph.tensors[index].type
        return next(name for name, value in _TYPES.items() if value == code)

    def serialize(self, outputs: Sequence[tuple[str, int]]) -> bytes:
        """The file's bytes, with the given (name, tensor) pairs as outputs of the signature `serving_default`."""
        self._graph.outputs = [index for _, index in outputs]
        signature: Any = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.subgraphIndex = 0
        signature.inputs = [_named(self._graph.tensors[index].name, index) for index in self._graph.inputs]
        signature.outputs = [_named(name, index) for name, index in outputs]
        self._model.signatureDefs = [signature]
        stored = sum(len(buffer.data) + 64 for buffer in self._model.buffers if buffer.data is not None)
        builder = flatbuffers.Builder(stored + (1 << 16))  # growing it on the way costs two thirds of the time
        builder.Finish(self._model.Pack(builder), _FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(self, shape: Sequence[int], dtype: str, name: str | None = None) -> int:
        tensor: Any = schema.TensorT()
        tensor.shape = [int(extent) for extent in shape]
        tensor.type = _TYPES[dtype]
        tensor.name = name or f"t{len(self._graph.tensors)}"
        tensor.buffer = 0
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _code(self, code: int, version: int) -> int:
        key = (code, version)
        if key not in self._codes:
            entry: Any = schema.OperatorCodeT()
            entry.builtinCode = code
            entry.deprecatedBuiltinCode = min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
            entry.version = version
            self._model.operatorCodes.append(entry)
            self._codes[key] = len(self._model.operatorCodes) - 1
        return self._codes[key]


def _named(name: str, index: int) -> schema.TensorMapT:
    entry: Any = schema.TensorMapT()
    entry.name = name
    entry.tensorIndex = index
    return entry
