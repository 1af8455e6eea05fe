"""Run a .tflite module on the host, for verification."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from tailorbird.compile.base import Built


def run(built: Built, batches: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Outputs for each tuple of inputs, both in the order of the module's signature."""
    from ai_edge_litert.interpreter import Interpreter

    outputs = []
    with without_chatter():
        interpreter = Interpreter(model_content=built.module, num_threads=built.target.threads)
        signature = interpreter.get_signature_runner()
        for batch in batches:
            results = signature(**{spec.name: value for spec, value in zip(built.inputs, batch, strict=True)})
            outputs.append([results[spec.name] for spec in built.outputs])
    return outputs


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Keep LiteRT's INFO lines off the user's terminal: it writes to descriptor 2 and has no switch for it."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            heard.seek(0)
            for line in heard:
                if not line.startswith(b"INFO:"):
                    os.write(2, line)
