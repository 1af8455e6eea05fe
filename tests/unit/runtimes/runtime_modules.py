"""Tiny real modules for LiteRT and TVM, built where they are needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

WEIGHT = np.arange(64, dtype=np.float32).reshape(16, 4) / 64


def tvm_runtime_library() -> Path:
    """libtvm_runtime.so of the installed compiler."""
    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "lib" / "libtvm_runtime.so"


def build_tvm(path: Path, shift: float = 0.0, *, parameters: bool = False) -> None:
    """A Relax executable, y = x @ WEIGHT + shift with x (1, 16); with parameters the shift (4,) is a second input."""
    import tvm
    from tvm import relax

    x = relax.Var("x", relax.TensorType((1, 16), "float32"))
    offset = relax.Var("offset", relax.TensorType((4,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, offset] if parameters else [x]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, relax.const(WEIGHT)))
            summand = offset if parameters else relax.const(np.full(4, shift, np.float32))
            y = builder.emit_output(relax.op.add(product, summand))
        builder.emit_func_output(y)
    library = path.with_suffix(".so")
    relax.build(builder.get(), tvm.target.Target({"kind": "llvm"})).export_library(str(library))
    library.rename(path)


def build_litert(path: Path, shift: float = 0.0) -> None:
    """A flatbuffer, y = x + shift with x (1, 16)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: bytes, shape: list[int], buffer: int) -> object:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, shape, buffer, schema.TensorType.FLOAT32
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    add = schema.OperatorT()
    add.inputs, add.outputs = [0, 1], [2]
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [tensor(b"x", [1, 16], 0), tensor(b"shift", [16], 1), tensor(b"y", [1, 16], 0)]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [add]
    constant = schema.BufferT()
    constant.data = np.frombuffer(np.full(16, shift, np.float32).tobytes(), np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), constant]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
