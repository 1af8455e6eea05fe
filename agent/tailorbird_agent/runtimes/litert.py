"""The LiteRT runtime: .tflite flatbuffers through XNNPACK. ai-edge-litert, or tflite-runtime on 32-bit ARM.

The classic Interpreter, not CompiledModel: it lets go of the GIL while it runs and works on older cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.runtimes import memory
from tailorbird_agent.runtimes.base import Array, ModuleInvalidError, RuntimeMissingError

_MAGIC = b"TFL3"


class LiteRtModule:
    """An interpreter with its tensors allocated."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter: Any = interpreter
        self._inputs = [detail["index"] for detail in interpreter.get_input_details()]
        self._outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """One inference. Raises ValueError when an input does not fit."""
        if len(inputs) != len(self._inputs):
            raise ValueError(f"the model takes {len(self._inputs)} inputs, not {len(inputs)}")
        for index, value in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def close(self) -> None:
        """Free the interpreter and give its memory back."""
        self._interpreter = None
        memory.release()


class LiteRtRuntime:
    """Loads .tflite files, mapped rather than read."""

    def __init__(self) -> None:
        self._interpreter_class, self.version = _import_interpreter()

    def load(self, module: Path, parameters: Sequence[Path] = (), *, threads: int = 1) -> LiteRtModule:
        """Load a flatbuffer.

        Raises:
            ModuleInvalidError: not a flatbuffer LiteRT accepts, or parameter files beside it.
        """
        if parameters:
            raise ModuleInvalidError(f"{module.name}: a LiteRT module holds its own parameters")
        try:
            with module.open("rb") as file:
                if file.read(8)[4:] != _MAGIC:
                    raise ModuleInvalidError(f"{module.name} is not a .tflite file")
            interpreter = self._interpreter_class(model_path=str(module), num_threads=threads)
            interpreter.allocate_tensors()
            memory.drop_pages(module)  # XNNPACK holds a packed copy of the weights
        except (OSError, ValueError, RuntimeError) as error:
            raise ModuleInvalidError(f"LiteRT does not accept {module.name}: {error}") from error
        return LiteRtModule(interpreter)


def _import_interpreter() -> tuple[Any, str]:
    try:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, metadata.version("ai-edge-litert")
    except ImportError:
        pass
    if int(np.__version__.split(".")[0]) >= 2:
        # Built for numpy 1, it would crash the process rather than raise.
        raise RuntimeMissingError("ai-edge-litert is not installed, and tflite-runtime needs numpy < 2")
    try:
        from tflite_runtime.interpreter import (  # pyright: ignore[reportMissingImports]
            Interpreter as OldInterpreter,
        )

        return OldInterpreter, metadata.version("tflite-runtime")
    except ImportError as error:
        raise RuntimeMissingError("neither ai-edge-litert nor tflite-runtime is installed") from error
