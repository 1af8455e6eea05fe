"""Run a .tflite module on the host, for verification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tailorbird.compile.base import Built


def run(built: Built, batches: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Outputs for each tuple of inputs, both in the order of the module's signature."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=built.module, num_threads=built.target.threads)
    signature = interpreter.get_signature_runner()
    outputs = []
    for batch in batches:
        results = signature(**{spec.name: value for spec, value in zip(built.inputs, batch, strict=True)})
        outputs.append([results[spec.name] for spec in built.outputs])
    return outputs
