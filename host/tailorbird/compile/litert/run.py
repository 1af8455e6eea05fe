"""Run a .tflite module on the host, for verification."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tailorbird.compile.base import Built


def runner(built: Built) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function from inputs to outputs, both in the order of the module's signature."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=built.module, num_threads=built.target.threads)
    signature = interpreter.get_signature_runner()

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = signature(**{spec.name: value for spec, value in zip(built.inputs, inputs, strict=True)})
        return [results[spec.name] for spec in built.outputs]

    return run
